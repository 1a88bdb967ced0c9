package manager

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
)

func TestMapperKnowsTheResourceOfEachKind(t *testing.T) {
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	mapper := newMapper(scheme)
	for resource, obj := range map[string]client.Object{
		"nodes": &corev1.Node{}, "namespaces": &corev1.Namespace{},
		"services": &corev1.Service{}, "secrets": &corev1.Secret{}, "pods": &corev1.Pod{}, "events": &corev1.Event{},
		"endpointslices": &discoveryv1.EndpointSlice{}, "deployments": &appsv1.Deployment{},
		"ipaddresspools": &v1beta1.IPAddressPool{}, "l2advertisements": &v1beta1.L2Advertisement{},
		"bgpadvertisements": &v1beta1.BGPAdvertisement{}, "bfdprofiles": &v1beta1.BFDProfile{}, "communities": &v1beta1.Community{},
		"servicel2statuses": &v1beta1.ServiceL2Status{}, "servicebgpstatuses": &v1beta1.ServiceBGPStatus{},
		"configurationstates": &v1beta1.ConfigurationState{}, "bgppeers": &v1beta2.BGPPeer{},
		"bgpsessionstatuses": &v1alpha1.BGPSessionStatus{},
	} {
		t.Run(resource, func(t *testing.T) {
			gvk, err := apiutil.GVKForObject(obj, scheme)
			if err != nil {
				t.Fatal(err)
			}
			mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
			if err != nil {
				t.Fatal(err)
			}
			wantScope := meta.RESTScopeNameNamespace
			if resource == "nodes" || resource == "namespaces" {
				wantScope = meta.RESTScopeNameRoot
			}
			if mapping.Resource.Resource != resource || mapping.Scope.Name() != wantScope {
				t.Errorf("got %s of scope %s, want %s of scope %s", mapping.Resource.Resource, mapping.Scope.Name(), resource, wantScope)
			}
		})
	}
}

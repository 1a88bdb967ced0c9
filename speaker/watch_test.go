package main

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/membership"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/report"
)

// What the cache drops must not change what the plan sees.
func TestSlimServiceLosesNothingThatDecides(t *testing.T) {
	class := "a.b/c"
	full := func() *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: "web", UID: "u1", Labels: map[string]string{"app": "web"},
				CreationTimestamp: metav1.Unix(100, 0),
				Annotations: map[string]string{
					"metallb.io/ip-allocated-from-pool":                "pool",
					"metallb.universe.tf/allow-shared-ip":              "key",
					"kubectl.kubernetes.io/last-applied-configuration": "{…}",
				},
			},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class,
				ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
				ClusterIPs:            []string{"10.96.0.1"}, Selector: map[string]string{"app": "web"},
				Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
			},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
				Ingress: []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}, {IP: "fd00::1"}},
			}, Conditions: []metav1.Condition{{Type: "heraldlb.io/Assigned"}, {Type: report.ConditionAnnounced}}},
		}
	}
	want := service.Parse(full())
	slim, err := slimServices()(full())
	if err != nil {
		t.Fatal(err)
	}
	got := service.Parse(slim.(*corev1.Service))
	// Only the controller asks for these.
	want.ClusterIPs, want.Ports, want.BackendKey = got.ClusterIPs, got.Ports, got.BackendKey
	if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
		t.Errorf("(-full +slim):\n%s", diff)
	}
	if c := slim.(*corev1.Service).Status.Conditions; len(c) != 1 || c[0].Type != report.ConditionAnnounced {
		t.Errorf("the conditions %+v are kept, want the report's alone", c)
	}
	if n := len(slim.(*corev1.Service).Annotations); n != 2 {
		t.Errorf("%d annotations are kept, want the 2 of ours", n)
	}
}

func TestSlimNodeLosesNothingThatDecides(t *testing.T) {
	full := func() *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "node-a", Labels: map[string]string{
				"zone": "east", "node.kubernetes.io/exclude-from-external-load-balancers": "false",
			}},
			Status: corev1.NodeStatus{
				Images:     []corev1.ContainerImage{{Names: []string{"big"}}},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}, {Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}},
			},
		}
	}
	slim, err := slimNode(full())
	if err != nil {
		t.Fatal(err)
	}
	got := nodeOf(slim.(*corev1.Node))
	if diff := cmp.Diff(nodeOf(full()), got); diff != "" {
		t.Errorf("(-full +slim):\n%s", diff)
	}
	want := observed.Node{Name: "node-a", Labels: full().Labels, NetworkUnavailable: true, NotReady: true, Excluded: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// podList answers every list with pods as the cache would hold them.
type podList struct {
	client.Reader
	pods []*corev1.Pod
}

func (l podList) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	for _, p := range l.pods {
		slim, err := slimPod(p)
		if err != nil {
			return err
		}
		list.(*corev1.PodList).Items = append(list.(*corev1.PodList).Items, *slim.(*corev1.Pod))
	}
	return nil
}

func TestPeersAreTheSpeakersPods(t *testing.T) {
	pod := func(node, ip string, phase corev1.PodPhase, conditions ...corev1.PodCondition) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "speaker-" + node},
			Spec:       corev1.PodSpec{NodeName: node},
			Status:     corev1.PodStatus{Phase: phase, PodIP: ip, Conditions: conditions},
		}
	}
	started := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, Message: "long"}
	waits := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}
	got, err := caches{podList{pods: []*corev1.Pod{
		pod("serves", "10.0.0.1", corev1.PodRunning, started, ready),
		pod("waits", "fd00::2", corev1.PodRunning, started, waits),
		pod("fresh", "", corev1.PodPending),
		pod("ended", "10.0.0.4", corev1.PodFailed, ready),
		pod("", "", corev1.PodPending),
	}}}.peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []membership.Peer{
		{Node: "serves", Addr: netip.MustParseAddr("10.0.0.1"), Ready: true},
		{Node: "waits", Addr: netip.MustParseAddr("fd00::2")},
		{Node: "fresh"},
	}
	if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStatusOfConfigurationIsNoNews(t *testing.T) {
	in := newInbox()
	h := configHandler(in)
	before := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "pool", Generation: 1}}
	news := func(change func(*v1beta1.IPAddressPool)) bool {
		in.take()
		after := before.DeepCopy()
		change(after)
		h.OnUpdate(before, after)
		return in.take().config
	}
	if news(func(p *v1beta1.IPAddressPool) { p.Status.AssignedIPv4 = 7 }) {
		t.Error("a status is taken for news")
	}
	if !news(func(p *v1beta1.IPAddressPool) { p.Generation = 2 }) {
		t.Error("a new spec is not noticed")
	}
	if !news(func(p *v1beta1.IPAddressPool) { p.Labels = map[string]string{"a": "b"} }) {
		t.Error("a new label, which selectors may ask for, is not noticed")
	}
}

func TestHeadlessServicesAreNotWatched(t *testing.T) {
	for set, want := range map[string]bool{
		"kubernetes.io/service-name=web":                                 true,
		"kubernetes.io/service-name=web,service.kubernetes.io/headless=": false,
		"app=web": false,
	} {
		l, err := labels.ConvertSelectorToLabelsMap(set)
		if err != nil {
			t.Fatal(err)
		}
		if got := served().Matches(l); got != want {
			t.Errorf("slice with %s: watched %v, want %v", set, got, want)
		}
	}
}

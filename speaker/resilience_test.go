package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
)

// Kubernetes takes the class away together with the type. The Service is then one
// of no class, and its address is not announced any more.
func TestClassedServiceThatChangesItsTypeIsWithdrawn(t *testing.T) {
	s := newSpeaker(t)
	s.class = "example.org/fast"
	s.known().look()
	s.serve("plain", "192.168.1.240")
	fast := s.serve("fast", "192.168.1.242", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &s.class })
	s.look()
	s.wantAnnounced("while it is of the class", "192.168.1.242")
	changed := fast.DeepCopy()
	changed.Spec.Type, changed.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
	s.inbox.service(changed, false)
	s.look()
	s.wantAnnounced("when its type changed")
	if n := len(s.report.decisions); n != 0 {
		t.Errorf("the report knows %d Services, want none", n)
	}
}

// Of a watch that selects by the type, such a change is a deletion.
func TestOnlyLoadBalancersAreWatched(t *testing.T) {
	for obj, by := range cacheOptions(options{}) {
		switch obj.(type) {
		case *corev1.Service:
			for kind, want := range map[corev1.ServiceType]bool{
				corev1.ServiceTypeLoadBalancer: true, corev1.ServiceTypeClusterIP: false, corev1.ServiceTypeNodePort: false,
			} {
				if by.Field == nil || by.Field.Matches(fields.Set{"spec.type": string(kind)}) != want {
					t.Errorf("a Service of type %s: watched should be %v", kind, want)
				}
			}
		case *discoveryv1.EndpointSlice:
			if by.Label == nil || by.Label.Matches(labels.Set{}) {
				t.Error("slices of no Service are watched")
			}
		}
	}
}

// Objects that come in another order, or that are told of again, make no work.
func TestSameConfigurationMakesNoWork(t *testing.T) {
	s := newSpeaker(t)
	for _, name := range []string{"b", "a", "c"} {
		s.store.objects.L2Advertisements = append(s.store.objects.L2Advertisements, v1beta1.L2Advertisement{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"pool"}, Interfaces: []string{"eth0", "eth" + name}},
		})
	}
	s.serve("web", "192.168.1.240")
	s.known().look()
	s.wantAnnounced("at first", "192.168.1.240")
	inForce, story, told := s.snapshot, slices.Clone(s.story), slices.Clone(s.report.firsts)
	for range 5 {
		slices.Reverse(s.store.objects.L2Advertisements)
		s.inbox.put(func(n *notes) { n.config = true })
		s.look()
	}
	if s.snapshot != inForce {
		t.Error("another configuration is in force, so everything was decided again")
	}
	if diff := cmp.Diff(story, s.story); diff != "" {
		t.Errorf("the rooms were told (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(told, s.report.firsts); diff != "" {
		t.Errorf("the report was told (-before +after):\n%s", diff)
	}
}

// unreadableStore fails to list the objects.
type unreadableStore struct {
	store
	err error
}

func (u unreadableStore) Objects(context.Context) (config.Objects, error) {
	return config.Objects{}, u.err
}

// A configuration that cannot be read is not reported, neither as sound nor as
// wrong: the speaker says so and ends, and what it announces is handed over.
func TestConfigurationThatCannotBeReadIsNotTakenForASoundOne(t *testing.T) {
	s := newSpeaker(t)
	s.store.objects.Pools = append(s.store.objects.Pools, v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "empty"}})
	s.serve("web", "192.168.1.240")
	s.known().look()
	want := slices.Clone(s.report.problems)
	if len(want) != 1 {
		t.Fatalf("problems %v, want one", want)
	}
	broken := errors.New("the cache is gone")
	s.loop.store = unreadableStore{s.store, broken}
	s.inbox.put(func(n *notes) { n.config = true })
	if err := s.step(t.Context()); !errors.Is(err, broken) {
		t.Errorf("the step ended with %v, want %v", err, broken)
	}
	if diff := cmp.Diff(want, s.report.problems); diff != "" {
		t.Errorf("reported problems (-before +after):\n%s", diff)
	}
	s.wantAnnounced("until it is handed over", "192.168.1.240")
}

// What cannot work over BGP keeps nothing from layer 2.
func TestLayer2DoesNotWaitForBGP(t *testing.T) {
	s := newSpeaker(t)
	s.store.objects.BGPAdvertisements = []v1beta1.BGPAdvertisement{{
		ObjectMeta: metav1.ObjectMeta{Name: "nowhere"},
		Spec:       v1beta1.BGPAdvertisementSpec{Peers: []string{"no-such-peer"}, Communities: []v1beta1.CommunityRef{"no-such-name"}},
	}}
	s.serve("web", "192.168.1.240")
	s.known().look()
	s.wantAnnounced("beside an advertisement that cannot work", "192.168.1.240")
}

// The label keeps a node out unless the flag says otherwise.
func TestExcludedNodesTakePartIfAsked(t *testing.T) {
	for ignore, want := range map[bool][]string{false: nil, true: {"192.168.1.240"}} {
		s := newSpeaker(t)
		s.loop = newLoop(options{node: "node-a", ignoreExclude: ignore}, s.log, newInbox(), s.rooms)
		s.report.first = s.first.Load
		s.inbox.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a", Labels: map[string]string{corev1.LabelNodeExcludeBalancers: ""}}}, false)
		s.serve("web", "192.168.1.240")
		s.known().look()
		s.wantAnnounced(fmt.Sprintf("with --ignore-exclude-lb=%t", ignore), want...)
	}
}

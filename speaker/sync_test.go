package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

var cmpAddr = cmpopts.EquateComparable(netip.Addr{})

// fakeStore holds objects as the caches would.
type fakeStore struct {
	objects  config.Objects
	secrets  plan.Secrets
	speakers []string
}

func (s *fakeStore) Secrets(context.Context) (plan.Secrets, error) {
	if s.secrets == nil {
		return plan.Secrets{}, nil
	}
	return s.secrets, nil
}

func (s *fakeStore) Objects(context.Context) (config.Objects, error) { return s.objects, nil }

func (s *fakeStore) Speakers(context.Context) ([]string, error) { return s.speakers, nil }

// fakeRing is a ring of which this node is one member.
type fakeRing struct {
	members observed.Members
	self    observed.Member
	changed chan struct{}
	story   *[]string
}

func (r *fakeRing) Members() observed.Members {
	m := r.members
	m.Members = append(slices.Clone(m.Members), r.self)
	return m
}
func (r *fakeRing) Changed() <-chan struct{} { return r.changed }
func (r *fakeRing) Refresh()                 { *r.story = append(*r.story, "refresh peers") }
func (r *fakeRing) SetPhase(p observed.Phase) {
	r.self.Phase = p
	*r.story = append(*r.story, fmt.Sprintf("phase %d", p))
}
func (r *fakeRing) SetInterfaces(i []observed.Interface) { r.self.Interfaces, r.self.Known = i, true }
func (r *fakeRing) Flush(context.Context) error {
	*r.story = append(*r.story, "tell all")
	return nil
}

// fakeL2 holds the table that the deltas add up to.
type fakeL2 struct {
	table desired.L2
	links observed.Links
	story *[]string
}

func (f *fakeL2) SetLinks(l observed.Links) { f.links = l }
func (f *fakeL2) Set(want desired.L2) {
	f.table = want
	*f.story = append(*f.story, fmt.Sprintf("announce %d", len(want)))
}
func (f *fakeL2) Apply(c desired.L2Change) {
	for a, w := range c.Announce {
		f.table[a] = w
		*f.story = append(*f.story, "announce "+a.String())
	}
	for _, a := range c.Withdraw {
		delete(f.table, a)
		*f.story = append(*f.story, "withdraw "+a.String())
	}
}

// fakeReport holds the last word on each Service.
type fakeReport struct {
	decisions map[service.Key]desired.Decision
	problems  []config.Problem
	// first is asked as the report asks the loop; firsts are its answers, at
	// each call.
	first  func() bool
	firsts []string
	// sessions and forwarding are what was told of them last.
	sessions   observed.BGP
	forwarding observed.BFD
}

func (f *fakeReport) Changed(changed []desired.Decision, removed []service.Key) {
	for _, d := range changed {
		f.decisions[d.Service] = d
	}
	for _, key := range removed {
		delete(f.decisions, key)
	}
	f.firsts = append(f.firsts, fmt.Sprint("changed, first: ", f.first()))
}
func (f *fakeReport) BecameFirst() {
	f.firsts = append(f.firsts, fmt.Sprint("became first: ", f.first()))
}
func (f *fakeReport) SetProblems(p []config.Problem) { f.problems = p }

func (f *fakeReport) Reconsider() {}

func (f *fakeReport) Drop([]desired.Subject) {}

func (f *fakeReport) SessionsChanged(bgp observed.BGP, bfd observed.BFD) {
	f.sessions, f.forwarding = bgp, bfd
}

// speaker is a loop on node-a among fakes.
type speaker struct {
	*loop
	t      *testing.T
	store  *fakeStore
	ring   *fakeRing
	l2     *fakeL2
	bgp    *fakeBGP
	bfd    *fakeBFD
	report *fakeReport
	story  []string
}

func newSpeaker(t *testing.T) *speaker {
	s := &speaker{t: t}
	s.store = &fakeStore{}
	s.store.objects.Pools = []v1beta1.IPAddressPool{{
		ObjectMeta: metav1.ObjectMeta{Name: "pool"},
		Spec:       v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.168.1.240-192.168.1.250"}},
	}}
	s.store.objects.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}}
	s.ring = &fakeRing{
		members: observed.Members{Enabled: true, Settled: true},
		self:    observed.Member{Node: "node-a"},
		changed: make(chan struct{}, 1),
		story:   &s.story,
	}
	s.l2 = &fakeL2{table: desired.L2{}, story: &s.story}
	s.bgp = &fakeBGP{routes: desired.BGPRoutes{}, story: &s.story}
	s.bfd = &fakeBFD{}
	s.report = &fakeReport{decisions: map[service.Key]desired.Decision{}}
	s.loop = newLoop(options{node: "node-a"}, slog.New(slog.DiscardHandler), newInbox(),
		rooms{store: s.store, ring: s.ring, l2: s.l2, bgp: s.bgp, bfd: s.bfd, report: s.report})
	s.report.first = s.first.Load
	s.inbox.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, false)
	s.inbox.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-d"}}, false)
	return s
}

// known gives the speaker everything that it waits for at the start.
func (s *speaker) known() *speaker {
	s.inbox.put(func(n *notes) { n.links = &observed.Links{eth0} })
	s.inbox.sync()
	return s
}

var eth0 = observed.Link{
	Index: 2, Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Up: true, Carrier: true,
	Broadcast: true, Multicast: true, LinkLocal: netip.MustParseAddr("fe80::1"),
}

func (s *speaker) look() {
	s.t.Helper()
	if err := s.step(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// serve makes a Service with one address and one endpoint.
func (s *speaker) serve(name, address string, change ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
		Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: address}}}},
	}
	for _, c := range change {
		c(svc)
	}
	s.inbox.service(svc, false)
	s.endpoint(name, "node-d", true)
	return svc
}

// endpoint makes the one endpoint of a Service ready or not.
func (s *speaker) endpoint(name, node string, ready bool) {
	s.inbox.slice(slim(s.t, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		Endpoints:  []discoveryv1.Endpoint{{NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}), false)
}

func slim(t *testing.T, s *discoveryv1.EndpointSlice) *slice {
	t.Helper()
	kept, err := slimSlices()(s)
	if err != nil {
		t.Fatal(err)
	}
	return kept.(*slice)
}

func (s *speaker) wantAnnounced(when string, want ...string) {
	s.t.Helper()
	var got []string
	for a := range s.l2.table {
		got = append(got, a.String())
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		s.t.Errorf("%s: announced addresses (-want +got):\n%s", when, diff)
	}
}

func (s *speaker) wantReason(name string, want reason.Reason) {
	s.t.Helper()
	if got := s.report.decisions[service.Key{Namespace: "default", Name: name}].Reason; got != want {
		s.t.Errorf("%s: reason %q, want %q", name, got, want)
	}
}

// 192.168.1.240 is node-a's, 192.168.1.241 node-d's.
func ready(node string) observed.Member {
	return observed.Member{Node: node, Phase: observed.Ready, Known: true, Interfaces: []observed.Interface{{Name: "eth0", Carrier: true, IPv4: true, IPv6: true}}}
}

func TestNothingIsAnnouncedUntilAllIsKnown(t *testing.T) {
	for missing, give := range map[string]func(*speaker){
		"the API server's objects":    func(s *speaker) { s.inbox.sync() },
		"the interfaces of this node": func(s *speaker) { s.inbox.put(func(n *notes) { n.links = &observed.Links{eth0} }) },
		"the membership ring: no key": func(s *speaker) { s.ring.members.Settled, s.ring.members.Waiting = true, "" },
	} {
		t.Run(missing, func(t *testing.T) {
			s := newSpeaker(t)
			s.serve("web", "192.168.1.240")
			switch missing {
			case "the API server's objects":
				s.inbox.put(func(n *notes) { n.links = &observed.Links{eth0} })
			case "the interfaces of this node":
				s.inbox.sync()
			default:
				s.known()
				s.ring.members.Settled, s.ring.members.Waiting = false, "no key"
			}
			s.look()
			s.wantAnnounced("before")
			if got, want := fmt.Sprint(s.unready()), "waiting for "+missing; got != want {
				t.Errorf("readiness: %s, want %s", got, want)
			}
			if s.ring.self.Phase != observed.Starting {
				t.Errorf("phase %d before all is known", s.ring.self.Phase)
			}
			give(s)
			s.look()
			s.wantAnnounced("after", "192.168.1.240")
			if err := s.unready(); err != nil || s.ring.self.Phase != observed.Ready {
				t.Errorf("readiness: %v, phase %d; want ready", err, s.ring.self.Phase)
			}
		})
	}
}

// A speaker that starts among others announces its own addresses and none of
// theirs, not even for a moment.
func TestStartTakesNothingFromOthers(t *testing.T) {
	s := newSpeaker(t)
	s.ring.members.Members = []observed.Member{ready("node-d")}
	s.serve("web", "192.168.1.240")
	s.serve("dns", "192.168.1.241")
	s.known().look()
	if diff := cmp.Diff([]string{"phase 1", "announce 192.168.1.240"}, s.story); diff != "" {
		t.Errorf("story (-want +got):\n%s", diff)
	}
	s.wantReason("web", reason.Elected)
	s.wantReason("dns", reason.NotOwner)
}

// When all speakers start at once, none of them announces what another one
// will own; one that never gets ready is not waited for.
func TestStartTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpeaker(t)
		other := ready("node-d")
		other.Phase = observed.Starting
		s.ring.members.Members = []observed.Member{other}
		s.serve("web", "192.168.1.240")
		s.serve("dns", "192.168.1.241")
		s.known().look()
		if diff := cmp.Diff([]string{fmt.Sprint("phase ", observed.Gathering)}, s.story); diff != "" {
			t.Errorf("story while node-d starts (-want +got):\n%s", diff)
		}
		time.Sleep(gatherWithin - time.Millisecond)
		synctest.Wait()
		s.look()
		s.wantAnnounced("while node-d starts")

		other.Phase = observed.Gathering
		s.ring.members.Members = []observed.Member{other}
		s.look()
		s.wantAnnounced("when node-d knows the cluster too", "192.168.1.240")
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSpeaker(t)
		other := ready("node-d")
		other.Phase = observed.Starting
		s.ring.members.Members = []observed.Member{other}
		s.serve("dns", "192.168.1.241")
		s.known().look()
		<-s.inbox.wake // of the notes above
		<-s.inbox.wake
		s.look()
		s.wantAnnounced("when node-d takes too long", "192.168.1.241")
	})
}

// A speaker whose pod exists and that has not joined yet is waited for, too.
func TestStartTogetherWithOneThatHasNotJoined(t *testing.T) {
	s := newSpeaker(t)
	s.store.speakers = []string{"node-a", "node-d"}
	s.serve("web", "192.168.1.240")
	s.known().look()
	s.wantAnnounced("before node-d joins")
	if got, want := fmt.Sprint(s.unready()), "waiting for the speaker of node-d, which starts together with this one"; got != want {
		t.Errorf("readiness: %s, want %s", got, want)
	}
	other := ready("node-d")
	other.Phase = observed.Gathering
	s.ring.members.Members = []observed.Member{other}
	s.look()
	s.wantAnnounced("when it has", "192.168.1.240")
}

// A pod on a dead node exists for long. The ring has waited for it already.
func TestStartDoesNotWaitForTheDead(t *testing.T) {
	s := newSpeaker(t)
	s.born = time.Now().Add(-joinWithin)
	s.store.speakers = []string{"node-a", "node-d"}
	s.serve("web", "192.168.1.240")
	s.known().look()
	s.wantAnnounced("when node-d stays away", "192.168.1.240")
}

// An elder serves: a speaker that starts waits for nobody, since the elder
// yields at once.
func TestStartBesideAnElder(t *testing.T) {
	s := newSpeaker(t)
	slow := ready("node-0")
	slow.Phase = observed.Starting
	s.store.speakers = []string{"node-0", "node-a", "node-b", "node-d"}
	s.ring.members.Members = []observed.Member{slow, ready("node-d")}
	s.serve("web", "192.168.1.240")
	s.known().look()
	s.wantAnnounced("beside an elder", "192.168.1.240")
}

func TestMembersMoveAddresses(t *testing.T) {
	s := newSpeaker(t)
	s.ring.members.Members = []observed.Member{ready("node-d")}
	s.serve("web", "192.168.1.240")
	s.serve("dns", "192.168.1.241")
	s.known().look()
	s.ring.members.Members = nil
	s.look()
	s.wantAnnounced("when node-d is gone", "192.168.1.240", "192.168.1.241")
	s.ring.members.Members = []observed.Member{ready("node-d")}
	s.look()
	s.wantAnnounced("when it is back", "192.168.1.240")
}

// What an interface can announce decides as much as its carrier does.
func TestAFamilyThatGoesMovesAddresses(t *testing.T) {
	s := newSpeaker(t)
	other := ready("node-d")
	s.ring.members.Members = []observed.Member{other}
	s.serve("dns", "192.168.1.241")
	s.known().look()
	s.wantAnnounced("while node-d can announce IPv4")
	other.Interfaces = []observed.Interface{{Name: "eth0", Carrier: true, IPv6: true}}
	s.ring.members.Members = []observed.Member{other}
	s.look()
	s.wantAnnounced("when it cannot any more", "192.168.1.241")
}

func TestServicesComeAndGo(t *testing.T) {
	s := newSpeaker(t)
	s.known().look()
	svc := s.serve("web", "192.168.1.240")
	s.look()
	s.wantAnnounced("created", "192.168.1.240")

	s.endpoint("web", "node-d", false)
	s.look()
	s.wantAnnounced("no endpoint")
	s.wantReason("web", reason.NoEndpoints)

	s.endpoint("web", "node-d", true)
	s.look()
	s.wantAnnounced("an endpoint again", "192.168.1.240")

	changed := svc.DeepCopy()
	changed.Status.LoadBalancer.Ingress[0].IP = "192.168.1.242"
	s.inbox.service(changed, false)
	s.look()
	s.wantAnnounced("another address", "192.168.1.242")

	s.inbox.service(changed, true)
	s.look()
	s.wantAnnounced("deleted")
	if _, ok := s.report.decisions[service.Key{Namespace: "default", Name: "web"}]; ok {
		t.Error("the report still knows the Service")
	}
}

func TestOnlyOurServicesAreServed(t *testing.T) {
	class := "someone.else/lb"
	s := newSpeaker(t)
	s.known().look()
	s.serve("foreign", "192.168.1.240", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class })
	s.serve("internal", "192.168.1.241", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	web := s.serve("web", "192.168.1.242")
	s.look()
	s.wantAnnounced("at first", "192.168.1.242")
	web = web.DeepCopy()
	web.Spec.Type = corev1.ServiceTypeNodePort
	s.inbox.service(web, false)
	s.look()
	s.wantAnnounced("when it is no LoadBalancer any more")
}

func TestOneBadObjectHarmsOnlyItself(t *testing.T) {
	s := newSpeaker(t)
	s.store.objects.Pools = append(s.store.objects.Pools, v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: "bad"},
		Spec:       v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"10.0.0.9-10.0.0.1"}},
	})
	s.serve("web", "192.168.1.240")
	s.known().look()
	s.wantAnnounced("with a bad pool beside", "192.168.1.240")
	if len(s.report.problems) != 1 || s.report.problems[0].Name != "bad" {
		t.Errorf("problems %+v, want one about the pool named bad", s.report.problems)
	}
	if !s.first.Load() {
		t.Error("the only speaker is not the first")
	}
	s.inbox.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}}, false)
	s.ring.members.Members = []observed.Member{ready("node-0")}
	s.look()
	if s.first.Load() {
		t.Error("two speakers are the first")
	}
}

// The report knows that this node is the first before it hears of the plan, and
// is told whenever that begins.
func TestTheFirstIsToldThatItIs(t *testing.T) {
	s := newSpeaker(t)
	s.inbox.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}}, false)
	s.known().look()
	s.look()
	s.serve("web", "192.168.1.240")
	s.ring.members.Members = []observed.Member{ready("node-0")}
	s.look()
	s.ring.members.Members = nil
	s.look()
	want := []string{
		"changed, first: true", "became first: true", // at the start
		"changed, first: false", // node-0 came
		"became first: true",    // and went, which changes no decision
	}
	if diff := cmp.Diff(want, s.report.firsts); diff != "" {
		t.Errorf("what the report was told (-want +got):\n%s", diff)
	}
}

func TestExcludedInterfacesAreNotTold(t *testing.T) {
	exclude, err := link.ParseExclude([]byte("announcedInterfacesToExclude: [^veth]"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSpeaker(t)
	veth := eth0
	veth.Index, veth.Name = 3, "veth1"
	s.inbox.put(func(n *notes) { n.links = &observed.Links{eth0, veth} })
	s.look()
	if len(s.l2.links) != 2 || len(s.ring.self.Interfaces) != 2 {
		t.Errorf("before: layer 2 has %v, the ring %v, want two each", s.l2.links, s.ring.self.Interfaces)
	}
	s.inbox.put(func(n *notes) { n.exclude = &exclude })
	s.look()
	if len(s.l2.links) != 1 || len(s.ring.self.Interfaces) != 1 {
		t.Errorf("after: layer 2 has %v, the ring %v, want eth0 alone", s.l2.links, s.ring.self.Interfaces)
	}
}

// The others are told and announce before this node stops to answer.
func TestDrain(t *testing.T) {
	for name, tt := range map[string]struct {
		others []observed.Member
		serve  bool
		want   []string
		took   time.Duration
	}{
		"with an heir":            {[]observed.Member{ready("node-d")}, true, []string{"phase 2", "tell all", "announce 0"}, handOver},
		"with nobody to take":     {nil, true, []string{"phase 2", "announce 0"}, 0},
		"with nothing to hand on": {[]observed.Member{ready("node-d")}, false, []string{"phase 2", "announce 0"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSpeaker(t)
				s.ring.members.Members = tt.others
				if tt.serve {
					s.serve("web", "192.168.1.240")
				}
				s.known().look()
				s.story = nil
				start := time.Now()
				s.drain()
				if diff := cmp.Diff(tt.want, s.story); diff != "" {
					t.Errorf("story (-want +got):\n%s", diff)
				}
				if got := time.Since(start); got != tt.took {
					t.Errorf("it took %s, want %s", got, tt.took)
				}
			})
		})
	}
}

func TestLoopWorksOnWhatItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpeaker(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.run(ctx) }()
		s.serve("web", "192.168.1.240")
		s.serve("dns", "192.168.1.241")
		s.known()
		synctest.Wait()
		s.wantAnnounced("alone", "192.168.1.240", "192.168.1.241")
		s.ring.members.Members = []observed.Member{ready("node-d")}
		s.ring.changed <- struct{}{}
		synctest.Wait()
		s.wantAnnounced("with node-d", "192.168.1.240")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.wantAnnounced("after the loop ended", "192.168.1.240")
	})
}

package report

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// bgpObject is the ServiceBGPStatus of web, as it is after both writes.
func bgpObject(owner metav1.OwnerReference, advertisers []desired.Advertiser) *v1beta1.ServiceBGPStatus {
	i := identity{node: "node-z", namespace: "herald", owner: owner}
	return &v1beta1.ServiceBGPStatus{ObjectMeta: i.meta(bgpStatusName(web), web), Status: bgpStatus(web, advertisers)}
}

func TestDecideBGPStatus(t *testing.T) {
	two := by("tor1 tor2", "node-a", "node-b")
	status := &v1beta1.ServiceBGPStatusStatus{ServiceName: "web", ServiceNamespace: "default", Peers: []string{"tor1", "tor2"},
		Nodes: []v1beta1.ServiceBGPStatusNode{{Node: "node-a", Peers: []string{"tor1", "tor2"}}, {Node: "node-b", Peers: []string{"tor1", "tor2"}}}}
	bare := &v1beta1.ServiceBGPStatus{ObjectMeta: metav1.ObjectMeta{
		Namespace: "herald", Name: bgpStatusName(web), OwnerReferences: []metav1.OwnerReference{me.owner},
		Labels: map[string]string{"metallb.io/service-name": "web", "metallb.io/service-namespace": "default"},
	}}
	there := func(objects ...*v1beta1.ServiceBGPStatus) []*v1beta1.ServiceBGPStatus { return objects }
	metallbs := bgpObject(me.owner, nil)
	metallbs.Name, metallbs.Status.Node = "bgp-x7k2p", "node-b"
	byHand := bgpObject(me.owner, two)
	byHand.Status.Node = "node-b"
	going := bgpObject(me.owner, two)
	going.DeletionTimestamp = &past
	unwritten := bgpObject(me.owner, two)
	unwritten.Status = v1beta1.ServiceBGPStatusStatus{}
	started := note{reason: "nodeAssigned", text: `announcing from node "node-a" with protocol "bgp" and from 1 more node`}
	silent := advertised(two)
	silent.Reports, silent.Advertisers = false, nil
	for _, tt := range []struct {
		name   string
		facts  facts
		want   bgpWrites
		events []note
	}{
		{"advertised for the first time",
			facts{there: true, bgp: advertised(two)},
			bgpWrites{create: bare, status: status}, []note{started}},
		{"all is as it should be",
			facts{there: true, bgp: advertised(two), bgpStatuses: there(bgpObject(me.owner, two))},
			bgpWrites{}, nil},
		{"the node that reports is another one now: nothing is written",
			facts{there: true, bgp: advertised(by("tor1 tor2", "node-b", "node-c")), bgpStatuses: there(bgpObject(me.owner, by("tor1 tor2", "node-b", "node-c")))},
			bgpWrites{}, nil},
		{"a node more: one write and no event",
			facts{there: true, bgp: advertised(two), bgpStatuses: there(bgpObject(me.owner, two[:1]))},
			bgpWrites{status: status}, nil},
		{"a peer more on one node",
			facts{there: true, bgp: advertised(two), bgpStatuses: there(bgpObject(me.owner, append(by("tor1 tor2", "node-a"), by("tor1", "node-b")...)))},
			bgpWrites{status: status}, nil},
		{"this node advertises and does not report: the object is another's",
			facts{there: true, bgp: silent, bgpStatuses: there(bgpObject(me.owner, two[:1]))},
			bgpWrites{}, nil},
		{"nobody advertises it any more",
			facts{there: true, bgp: refused(reason.NoEndpoints, "None."), bgpStatuses: there(bgpObject(me.owner, two))},
			bgpWrites{remove: []string{bgpStatusName(web)}}, []note{{reason: "serviceWithdrawn", text: "no node advertises it by BGP any more: None."}}},
		{"it is layer 2's alone now",
			facts{there: true, layer2: announces(), bgpStatuses: there(bgpObject(me.owner, two))},
			bgpWrites{remove: []string{bgpStatusName(web)}}, []note{{reason: "serviceWithdrawn", text: "no node advertises it by BGP any more"}}},
		{"the objects of each node that MetalLB left are cleared up",
			facts{there: true, bgp: advertised(two), bgpStatuses: there(metallbs, bgpObject(me.owner, two))},
			bgpWrites{remove: []string{"bgp-x7k2p"}}, nil},
		{"another DaemonSet owns it: the object is made anew, and nothing is told again",
			facts{there: true, bgp: advertised(two), bgpStatuses: there(bgpObject(metav1.OwnerReference{UID: "ds-0"}, two))},
			bgpWrites{replace: true, create: bare, status: status}, nil},
		{"somebody wrote a node into it, which cannot be changed",
			facts{there: true, bgp: advertised(two), bgpStatuses: there(byHand)},
			bgpWrites{replace: true, create: bare, status: status}, nil},
		{"an object that is being deleted counts as gone",
			facts{there: true, bgp: advertised(two), bgpStatuses: there(going)},
			bgpWrites{create: bare, status: status}, []note{started}},
		{"created and not written: the event has yet to be told",
			facts{there: true, bgp: advertised(two), bgpStatuses: there(unwritten)},
			bgpWrites{status: status}, []note{started}},
		{"not known yet: what an earlier life told stays",
			facts{there: true, bgpStarting: true, sweeps: true, bgpStatuses: there(bgpObject(me.owner, two))},
			bgpWrites{}, nil},
		{"the plan forgot the Service, which this node reported",
			facts{there: true, reported: true, bgpStatuses: there(bgpObject(me.owner, two))},
			bgpWrites{remove: []string{bgpStatusName(web)}}, nil},
		{"the plan forgot the Service, which another node reported",
			facts{there: true, sweeps: true, bgpStatuses: there(bgpObject(me.owner, two))},
			bgpWrites{}, nil},
		{"nobody knows the Service: the first node clears up",
			facts{sweeps: true, bgpStatuses: there(bgpObject(me.owner, two))},
			bgpWrites{remove: []string{bgpStatusName(web)}}, nil},
		{"the Service is gone and the plan has yet to hear of it: no event on what is not there",
			facts{bgp: advertised(two), bgpStatuses: there(bgpObject(me.owner, two))},
			bgpWrites{remove: []string{bgpStatusName(web)}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.key = web
			for i, s := range tt.facts.bgpStatuses {
				tt.facts.bgpStatuses[i] = s.DeepCopy()
			}
			var full, slim writes
			me.decideBGPStatus(tt.facts, &full)
			for _, w := range []writes{full} {
				if diff := cmp.Diff(tt.want, w.bgp, cmp.AllowUnexported(bgpWrites{}), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.events, w.events, cmp.AllowUnexported(note{}), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
			}
			// What the cache drops changes nothing of it.
			for i, s := range tt.facts.bgpStatuses {
				kept, err := slimBGPStatuses()(s)
				if err != nil {
					t.Fatal(err)
				}
				tt.facts.bgpStatuses[i] = kept.(*v1beta1.ServiceBGPStatus)
			}
			me.decideBGPStatus(tt.facts, &slim)
			if diff := cmp.Diff(full, slim, cmp.AllowUnexported(writes{}, bgpWrites{}, note{})); diff != "" {
				t.Errorf("decided (-full +slim):\n%s", diff)
			}
		})
	}
}

// A slim object is about the same Service, and small.
func TestSlimBGPStatuses(t *testing.T) {
	var nodes []string
	for i := range 500 {
		nodes = append(nodes, fmt.Sprint("node-", i))
	}
	slim := slimBGPStatuses()
	for name, s := range map[string]*v1beta1.ServiceBGPStatus{
		"written":     bgpObject(me.owner, by("tor1 tor2", nodes...)),
		"not written": {ObjectMeta: me.meta("bgp-1", web)},
		"MetalLB's":   {Status: v1beta1.ServiceBGPStatusStatus{Node: "node-b", ServiceName: "web", ServiceNamespace: "default", Peers: []string{"tor1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s.UID, s.ResourceVersion, s.ManagedFields = "u", "7", []metav1.ManagedFieldsEntry{{Manager: "speaker"}}
			got, err := slim(s.DeepCopy())
			if err != nil {
				t.Fatal(err)
			}
			kept := got.(*v1beta1.ServiceBGPStatus)
			if bgpStatusKey(kept) != web || kept.UID != "u" || kept.ResourceVersion != "7" || !cmp.Equal(kept.OwnerReferences, s.OwnerReferences) {
				t.Errorf("about %s, %+v", bgpStatusKey(kept), kept.ObjectMeta)
			}
			if said(kept) != said(s) && name != "MetalLB's" {
				t.Error("it says something else")
			}
			if len(kept.Status.Nodes) > 0 || len(kept.ManagedFields) > 0 {
				t.Errorf("it is not slim: %+v", kept)
			}
		})
	}
}

// told is the fake's Decision for a Service, on one node of many.
func told(key service.Key, node string, reports bool, advertisers []desired.Advertiser) desired.Decision {
	d := desired.Decision{Service: key, Protocol: desired.BGP, Reports: reports, Reason: reason.NoLocalEndpoints}
	for _, a := range advertisers {
		if a.Node == node {
			d.Announce, d.Peers, d.Reason = true, a.Peers, reason.Advertised
		}
	}
	switch {
	case reports && len(advertisers) == 0:
		d.Outcome = desired.Outcome{Reason: reason.NoLocalEndpoints, Message: "No node has a pod."}
	case reports:
		d.Advertisers = advertisers
	}
	return d
}

// However many nodes advertise a Service, and whichever of them move, one node
// writes, and once for each move.
func TestManyNodesCostOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake(t)
		key := c.addService("web")
		var nodes []string
		var all []*running
		for i := range 20 {
			nodes = append(nodes, fmt.Sprintf("node-%02d", i))
			all = append(all, c.start(t, nodes[i], "ds-1", i == 0))
			defer all[i].stop()
		}
		synctest.Wait()
		tell := func(advertisers []desired.Advertiser) []string {
			before := len(c.writes())
			for i, r := range all {
				r.Changed([]desired.Decision{told(key, nodes[i], i == 3, advertisers)}, nil)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			return c.writes()[before:]
		}
		name := bgpStatusName(key)
		want := []string{
			"create " + name,
			"status " + name + " node-01:tor1,tor2 node-02:tor1,tor2 node-03:tor1,tor2 node-04:tor1,tor2 node-05:tor1,tor2",
			"condition default/web True Advertised",
			`event default/web nodeAssigned: announcing from node "node-03" with protocol "bgp" and from 4 more nodes`,
		}
		if diff := cmp.Diff(want, tell(by("tor1 tor2", nodes[1:6]...))); diff != "" {
			t.Errorf("advertised (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{}, tell(by("tor1 tor2", nodes[1:6]...))); diff != "" {
			t.Errorf("told again (-want +got):\n%s", diff)
		}

		// A pod moves from node-05 to node-09: its new node has it first.
		before := len(c.writes())
		for _, now := range [][]desired.Advertiser{
			append(by("tor1 tor2", nodes[1:6]...), by("tor1 tor2", nodes[9])...),
			append(by("tor1 tor2", nodes[1:5]...), by("tor1 tor2", nodes[9])...),
		} {
			for i, r := range all {
				r.Changed([]desired.Decision{told(key, nodes[i], i == 3, now)}, nil)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want = []string{"status " + name + " node-01:tor1,tor2 node-02:tor1,tor2 node-03:tor1,tor2 node-04:tor1,tor2 node-09:tor1,tor2"}
		if diff := cmp.Diff(want, c.writes()[before:]); diff != "" {
			t.Errorf("an endpoint moved (-want +got):\n%s", diff)
		}

		want = []string{"delete " + name, "condition default/web False NoLocalEndpoints",
			"event default/web serviceWithdrawn: no node advertises it by BGP any more: No node has a pod."}
		if diff := cmp.Diff(want, tell(nil)); diff != "" {
			t.Errorf("withdrawn (-want +got):\n%s", diff)
		}
	})
}

func TestTheReporterOfBGPChanges(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	a, b := c.start(t, "node-a", "ds-1", true), c.start(t, "node-b", "ds-1", false)
	both := by("tor1", "node-a", "node-b")
	tell := func(reporter string) {
		a.Changed([]desired.Decision{told(key, "node-a", reporter == "node-a", both)}, nil)
		b.Changed([]desired.Decision{told(key, "node-b", reporter == "node-b", both)}, nil)
		quiet(t, c, a, b)
	}
	tell("node-a")
	before := len(c.writes())
	for _, reporter := range []string{"node-b", "node-a", "node-b"} {
		tell(reporter)
	}
	if diff := cmp.Diff([]string{}, c.writes()[before:]); diff != "" {
		t.Errorf("the reporter changed and nothing else (-want +got):\n%s", diff)
	}
	// The one that reports dies with what it knows, and a restart knows nothing.
	b.stop()
	a.stop()
	again := c.start(t, "node-a", "ds-1", true)
	again.Changed([]desired.Decision{told(key, "node-a", true, both)}, nil)
	quiet(t, c, again)
	if diff := cmp.Diff([]string{}, c.writes()[before:]); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	// It is alone now.
	again.Changed([]desired.Decision{told(key, "node-a", true, by("tor1", "node-a"))}, nil)
	eventually(t, "the object names one node", func() bool {
		s, n := c.bgpStatus(key)
		return n == 1 && len(s.Nodes) == 1
	})
	quiet(t, c, again)
	if n := count(c.writes(), "event"); n != 1 {
		t.Errorf("%d events, want the first alone", n)
	}
}

// While it does not know, a speaker leaves alone what it told in an earlier
// life, whichever comes first: what is there, or that nothing is known.
func TestWhatIsNotKnownYetIsLeftAlone(t *testing.T) {
	for _, late := range []bool{false, true} {
		c := newFake(t)
		key := c.addService("web")
		one := by("tor1", "node-a")
		r := c.start(t, "node-a", "ds-1", true)
		r.Changed([]desired.Decision{owns(key, "node-a"), told(key, "node-a", true, one)}, nil)
		quiet(t, c, r)
		r.stop()
		before := len(c.writes())

		starting := owns(key, "")
		starting.Announce, starting.Reports, starting.Reason = false, false, reason.Starting
		waiting := told(key, "node-a", false, nil)
		waiting.Reason = reason.Starting
		again := newReporter(Config{Node: "node-a", Pod: "speaker-node-a", Namespace: "herald", First: func() bool { return true }}, c)
		if late {
			again.Changed([]desired.Decision{starting, waiting}, nil)
		}
		stop := runUntil(t, again)
		eventually(t, "it watches", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.watches) == 2
		})
		if !late {
			again.Changed([]desired.Decision{starting, waiting}, nil)
		}
		again.BecameFirst()
		quiet(t, c, &running{Reporter: again})
		again.Changed([]desired.Decision{owns(key, "node-a"), told(key, "node-a", true, one)}, nil)
		quiet(t, c, &running{Reporter: again})
		if diff := cmp.Diff([]string{}, c.writes()[before:]); diff != "" {
			t.Errorf("late %v: a restart wrote (-want +got):\n%s", late, diff)
		}
		again.mu.Lock()
		if again.starting != nil {
			t.Errorf("%v is still held to be starting", again.starting)
		}
		again.mu.Unlock()
		stop()
	}
}

func TestADecisionIsDropped(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	r := c.start(t, "node-a", "ds-1", true)
	one := by("tor1", "node-a")
	r.Changed([]desired.Decision{owns(key, "node-a"), told(key, "node-a", true, one)}, nil)
	eventually(t, "both are told", func() bool {
		return strings.Contains(c.condition(key).Message, "; node-a advertises it to tor1 by BGP")
	})
	if n := gaugeSeries(t, r, "metallb_speaker_announced"); n != 2 {
		t.Errorf("%d series, want those of layer 2: the Decision over BGP has no addresses", n)
	}
	r.Drop([]desired.Subject{{Service: key, Protocol: desired.BGP}})
	eventually(t, "layer 2 alone is told", func() bool {
		_, n := c.bgpStatus(key)
		return n == 0 && c.condition(key).Message == assigned
	})
	r.Changed([]desired.Decision{told(key, "node-a", true, one)}, nil)
	r.Drop([]desired.Subject{{Service: key, Protocol: desired.Layer2}})
	eventually(t, "BGP alone is told", func() bool {
		_, n := c.bgpStatus(key)
		_, l2 := c.status(key)
		return n == 1 && l2 == 0 && c.condition(key).Message == "node-a advertises it to tor1 by BGP"
	})
	r.Changed(nil, []service.Key{key})
	eventually(t, "nothing is left", func() bool {
		_, n := c.bgpStatus(key)
		r.mu.Lock()
		defer r.mu.Unlock()
		return n == 0 && c.condition(key).Status == "" && len(r.entries) == 0
	})
}

// The node that reported died together with the Service.
func TestTheFirstNodeClearsUpServiceBGPStatuses(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	lost := c.start(t, "node-z", "ds-1", false)
	lost.Changed([]desired.Decision{told(key, "node-z", true, by("tor1", "node-z"))}, nil)
	quiet(t, c, lost)
	lost.stop()
	c.mu.Lock()
	delete(c.services, key)
	c.mu.Unlock()
	second, first := c.start(t, "node-b", "ds-1", false), c.start(t, "node-a", "ds-1", false)
	second.Changed(nil, nil)
	first.Changed(nil, nil)
	quiet(t, c, second, first)
	if _, n := c.bgpStatus(key); n != 1 {
		t.Fatalf("%d objects before anybody is the first, want 1", n)
	}
	first.isFirst.Store(true)
	first.BecameFirst()
	eventually(t, "nothing is left", func() bool { _, n := c.bgpStatus(key); return n == 0 })
}

// Two nodes that each believe that they report write ever more slowly.
func TestTwoReportersOfBGPDoNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake(t)
		key := c.addService("web")
		a, b := c.start(t, "node-a", "ds-1", false), c.start(t, "node-b", "ds-1", false)
		defer func() { a.stop(); b.stop() }()
		synctest.Wait()
		a.Changed([]desired.Decision{told(key, "node-a", true, by("tor1", "node-a"))}, nil)
		b.Changed([]desired.Decision{told(key, "node-b", true, by("tor1", "node-b"))}, nil)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		before := len(c.writes())
		if before > 200 {
			t.Errorf("%d writes in 5 minutes", before)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := len(c.writes()) - before; n > 60 {
			t.Errorf("%d writes in 5 minutes, after 5 minutes of patience", n)
		}
		a.Changed([]desired.Decision{told(key, "node-a", true, by("tor1", "node-a", "node-b"))}, nil)
		b.Changed([]desired.Decision{told(key, "node-b", false, by("tor1", "node-a", "node-b"))}, nil)
		time.Sleep(2 * settleWithin)
		synctest.Wait()
		if s, n := c.bgpStatus(key); n != 1 || len(s.Nodes) != 2 {
			t.Errorf("the ring is whole: %d objects, of %v", n, s.Nodes)
		}
	})
}

func TestNamesOfBGPObjects(t *testing.T) {
	long := strings.Repeat("very-long-name.", 16) + "example"
	seen := map[string]string{}
	for what, name := range map[string]string{
		"the Service":              bgpStatusName(web),
		"another Service":          bgpStatusName(service.Key{Namespace: "default", Name: "web2"}),
		"a session":                sessionName("tor1", "node-a", ""),
		"of another node":          sessionName("tor1", "node-b", ""),
		"of another peer":          sessionName("tor2", "node-a", ""),
		"of a neighbour":           sessionName("tor1", "node-a", "192.0.2.7"),
		"of a link-local one":      sessionName("tor1", "node-a", "fe80::1%eth0"),
		"with long names":          sessionName(long, long, "2001:db8::1"),
		"an event, long":           shorten(long, maxEventName),
		"an event, cut at the dot": shorten(strings.Repeat("a", maxEventName-12)+"."+long, maxEventName),
	} {
		if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
			t.Errorf("%s: %q is no object name: %v", what, name, errs)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%s and %s share a name", what, other)
		}
		seen[name] = what
	}
	for key, value := range me.newSession("x", long).Labels {
		if errs := validation.IsValidLabelValue(value); len(errs) > 0 {
			t.Errorf("label %s: %q: %v", key, value, errs)
		}
	}
}

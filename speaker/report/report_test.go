package report

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

func owns(key service.Key, node string) desired.Decision {
	return desired.Decision{Service: key, Protocol: desired.Layer2, Announce: true, Reports: true, Owner: node,
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Reason: reason.Elected}
}

func notOwner(key service.Key, owner string) desired.Decision {
	return desired.Decision{Service: key, Protocol: desired.Layer2, Owner: owner, Reason: reason.NotOwner}
}

func count(lines []string, prefix string) int {
	n := 0
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func TestAnAnnouncedServiceIsToldOnce(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	r := c.start(t, "node-a", "ds-1", false)
	d := owns(key, "node-a")
	d.Interfaces = []string{"eth1", "eth0"}
	for range 20 {
		r.Changed([]desired.Decision{d}, nil)
	}
	eventually(t, "the condition is there", func() bool { return c.condition(key).Status == metav1.ConditionTrue })
	r.Changed([]desired.Decision{d}, nil)
	quiet(t, c, r)
	name := statusName(key, "node-a")
	want := []string{
		"create " + name,
		"status " + name + " node-a [{eth0} {eth1}]",
		"condition default/web True Elected",
		`event default/web nodeAssigned: announcing from node "node-a" with protocol "layer2"`,
	}
	if diff := cmp.Diff(want, c.writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestAServiceMovesBetweenNodes(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	a, b := c.start(t, "node-a", "ds-1", false), c.start(t, "node-b", "ds-1", false)
	is := func(node string) func() bool {
		return func() bool {
			s, n := c.status(key)
			return n == 1 && s.Node == node && strings.Contains(c.condition(key).Message, `"`+node+`"`)
		}
	}
	for i, owner := range []string{"node-a", "node-b", "node-a"} {
		da, db := notOwner(key, owner), notOwner(key, owner)
		if owner == "node-a" {
			da = owns(key, owner)
		} else {
			db = owns(key, owner)
		}
		// The new owner learns of it first, then second.
		if i%2 == 0 {
			a.Changed([]desired.Decision{da}, nil)
			b.Changed([]desired.Decision{db}, nil)
		} else {
			b.Changed([]desired.Decision{db}, nil)
			a.Changed([]desired.Decision{da}, nil)
		}
		eventually(t, "it is told of "+owner, is(owner))
		quiet(t, c, a, b)
	}
	if n := count(c.writes(), "event"); n != 3 {
		t.Errorf("%d events for three owners", n)
	}
	since := c.condition(key).LastTransitionTime
	if since.IsZero() {
		t.Error("no transition time")
	}
}

func TestARestartWritesOnlyWhatMustBe(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	gone := c.addService("gone")
	first := c.start(t, "node-a", "ds-1", false)
	first.Changed([]desired.Decision{owns(key, "node-a"), owns(gone, "node-a")}, nil)
	eventually(t, "both told", func() bool {
		return c.condition(key).Status != "" && c.condition(gone).Status != ""
	})
	quiet(t, c, first)
	first.stop()
	before := len(c.writes())
	// While it was away one Service went to another node.
	again := c.start(t, "node-a", "ds-1", false)
	again.Changed([]desired.Decision{owns(key, "node-a"), notOwner(gone, "node-b")}, nil)
	quiet(t, c, again)
	if diff := cmp.Diff([]string{"delete " + statusName(gone, "node-a")}, c.writes()[before:]); diff != "" {
		t.Errorf("writes after the restart (-want +got):\n%s", diff)
	}
	// Herald was installed anew: the objects go with the old DaemonSet.
	again.stop()
	before = len(c.writes())
	third := c.start(t, "node-a", "ds-2", false)
	third.Changed([]desired.Decision{owns(key, "node-a"), notOwner(gone, "node-b")}, nil)
	quiet(t, c, third)
	name := statusName(key, "node-a")
	want := []string{"delete " + name, "create " + name, "status " + name + " node-a []"}
	if diff := cmp.Diff(want, c.writes()[before:]); diff != "" {
		t.Errorf("writes of another installation (-want +got):\n%s", diff)
	}
}

func TestTheFirstNodeClearsUpAfterLostOnes(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	lost := c.start(t, "node-z", "ds-1", false)
	lost.Changed([]desired.Decision{owns(key, "node-z")}, nil)
	eventually(t, "told", func() bool { return c.condition(key).Status != "" })
	lost.stop()
	c.mu.Lock()
	delete(c.services, key)
	c.mu.Unlock()
	second, first := c.start(t, "node-b", "ds-1", false), c.start(t, "node-a", "ds-1", false)
	eventually(t, "both watch", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.watches) == 3
	})
	second.Changed(nil, nil)
	quiet(t, c, second, first)
	if _, n := c.status(key); n != 1 {
		t.Errorf("%d objects after a node that is not the first has looked, want 1", n)
	}
	first.Changed(nil, nil)
	first.isFirst.Store(true)
	first.BecameFirst()
	eventually(t, "nothing is left", func() bool {
		_, n := c.status(key)
		return n == 0
	})
}

// The plan may be there before the cache of what was told.
func TestTheFirstNodeClearsUpWhatItSeesLate(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	lost := c.start(t, "node-z", "ds-1", false)
	lost.Changed([]desired.Decision{owns(key, "node-z")}, nil)
	eventually(t, "told", func() bool { return c.condition(key).Status != "" })
	lost.stop()
	c.mu.Lock()
	delete(c.services, key)
	c.mu.Unlock()
	early := newReporter(Config{Node: "node-a", Pod: "speaker-node-z", Namespace: "herald", First: func() bool { return true }}, c)
	early.Changed(nil, nil)
	early.BecameFirst()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- early.Run(ctx) }()
	eventually(t, "nothing is left", func() bool {
		_, n := c.status(key)
		return n == 0
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Problems that are older than the first node's readiness get their events too.
func TestProblemsAreToldByWhoBecomesTheFirst(t *testing.T) {
	c := newFake(t)
	r := c.start(t, "node-a", "ds-1", false)
	r.SetProblems([]config.Problem{{Kind: "IPAddressPool", Name: "pool", Severity: config.Error, Message: "no"}})
	eventually(t, "the state is written", func() bool { return count(c.writes(), "state") == 1 })
	quiet(t, c, r)
	if n := count(c.writes(), "event"); n != 0 {
		t.Errorf("%d events by a node that is not the first", n)
	}
	for range 2 {
		r.isFirst.Store(true)
		r.BecameFirst()
		eventually(t, "the event is written", func() bool { return count(c.writes(), "event") == 1 })
		quiet(t, c, r)
		r.isFirst.Store(false)
	}
	if n := count(c.writes(), "event"); n != 1 {
		t.Errorf("%d events about one problem", n)
	}
}

// What layer 2 cannot reach is told, and told again when it can.
func TestWhatIsNotReachedIsTold(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	r := c.start(t, "node-a", "ds-1", false)
	var broken atomic.Bool
	r.unreached = func(a netip.Addr) string {
		if a.Is6() && broken.Load() {
			return "eth0: Joining the solicited-node group failed."
		}
		return ""
	}
	r.Changed([]desired.Decision{owns(key, "node-a")}, nil)
	eventually(t, "announced", func() bool { return c.condition(key).Status == metav1.ConditionTrue })
	broken.Store(true)
	r.Reached()
	eventually(t, "the failure is told", func() bool { return c.condition(key).Status == metav1.ConditionFalse })
	if got, want := c.condition(key).Message, "2001:db8::1: eth0: Joining the solicited-node group failed."; !strings.Contains(got, want) || strings.Contains(got, "192.0.2.1") {
		t.Errorf("message %q, want one about %q alone", got, want)
	}
	broken.Store(false)
	r.Reached()
	eventually(t, "announced again", func() bool { return c.condition(key).Status == metav1.ConditionTrue })
	quiet(t, c, r)
	if n := count(c.writes(), "event default/web announceFailed"); n != 1 {
		t.Errorf("%d warnings about one failure", n)
	}
}

func TestALaggingCacheCausesNoSecondWrite(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	r := c.start(t, "node-a", "ds-1", false)
	eventually(t, "it watches", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.watches) == 1
	})
	c.setLag()
	r.Changed([]desired.Decision{owns(key, "node-a")}, nil)
	eventually(t, "the event is written", func() bool { return count(c.writes(), "event") == 1 })
	quiet(t, c, r)
	c.catchUp()
	quiet(t, c, r)
	if got := c.writes(); len(got) != 4 {
		t.Errorf("%d writes, want 4:\n%s", len(got), strings.Join(got, "\n"))
	}
}

func TestWhatOthersBreakIsRepaired(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	r := c.start(t, "node-a", "ds-1", false)
	r.Changed([]desired.Decision{owns(key, "node-a")}, nil)
	eventually(t, "told", func() bool { return c.condition(key).Status == metav1.ConditionTrue })
	quiet(t, c, r)

	c.mu.Lock()
	name := statusName(key, "node-a")
	s := c.statuses[name]
	delete(c.statuses, name)
	c.tell(func(h handlers) { h.statusSeen(s, true) })
	svc := c.services[key].DeepCopy()
	svc.Status.Conditions = nil
	c.putService(svc)
	c.mu.Unlock()
	eventually(t, "the object and the condition are back", func() bool {
		_, n := c.status(key)
		return n == 1 && c.condition(key).Status == metav1.ConditionTrue
	})
}

func TestFailuresAreRetriedAndHarmNobodyElse(t *testing.T) {
	c := newFake(t)
	bad, good := c.addService("bad"), c.addService("good")
	c.mu.Lock()
	c.fail["create "+statusName(bad, "node-a")] = 3
	c.fail["condition default/bad"] = 2
	c.fail["event"] = 1
	c.mu.Unlock()
	r := c.start(t, "node-a", "ds-1", false)
	r.Changed([]desired.Decision{owns(bad, "node-a"), owns(good, "node-a")}, nil)
	eventually(t, "both told in the end", func() bool {
		return c.condition(bad).Status == metav1.ConditionTrue && c.condition(good).Status == metav1.ConditionTrue
	})
	if v := gauge(t, r, "metallb_k8s_client_update_errors_total"); v != 5 {
		t.Errorf("%v errors counted, want 5", v)
	}
}

func TestAServiceThatGoes(t *testing.T) {
	c := newFake(t)
	deleted, changed := c.addService("deleted"), c.addService("changed")
	r := c.start(t, "node-a", "ds-1", false)
	r.Changed([]desired.Decision{owns(deleted, "node-a"), owns(changed, "node-a")}, nil)
	eventually(t, "told", func() bool {
		return c.condition(deleted).Status != "" && c.condition(changed).Status != ""
	})
	quiet(t, c, r)
	c.mu.Lock()
	delete(c.services, deleted)
	c.mu.Unlock()
	r.Changed(nil, []service.Key{deleted, changed})
	eventually(t, "nothing is left", func() bool {
		_, d := c.status(deleted)
		_, ch := c.status(changed)
		return d == 0 && ch == 0 && c.condition(changed).Status == ""
	})
	eventually(t, "nothing is remembered", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.entries) == 0
	})
	if n := gaugeSeries(t, r, "metallb_speaker_announced"); n != 0 {
		t.Errorf("%d series are left", n)
	}
}

func TestServicesOfOthersCostNothing(t *testing.T) {
	c := newFake(t)
	r := c.start(t, "node-a", "ds-1", false)
	var all []desired.Decision
	for i := range 5000 {
		all = append(all, notOwner(service.Key{Namespace: "default", Name: fmt.Sprint("s", i)}, "node-b"))
	}
	r.Changed(all, nil)
	quiet(t, c, r)
	if n := len(c.writes()); n != 0 {
		t.Errorf("%d writes", n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) != 0 {
		t.Errorf("%d Services are remembered", len(r.entries))
	}
}

func TestMetrics(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	r := c.start(t, "node-a", "ds-1", false)
	r.Changed([]desired.Decision{owns(key, "node-a")}, nil)
	if n := gaugeSeries(t, r, "metallb_speaker_announced"); n != 2 {
		t.Errorf("%d series for two addresses", n)
	}
	want := map[string]string{"service": "default/web", "protocol": "layer2", "node": "node-a", "ip": "192.0.2.1"}
	if !slices.ContainsFunc(labelsOf(t, r, "metallb_speaker_announced"), func(l map[string]string) bool { return cmp.Equal(l, want) }) {
		t.Errorf("no series %v in %v", want, labelsOf(t, r, "metallb_speaker_announced"))
	}
	bgp := told(key, "node-a", true, by("tor1", "node-a"))
	bgp.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	r.Changed([]desired.Decision{bgp}, nil)
	want["protocol"] = "bgp"
	if all := labelsOf(t, r, "metallb_speaker_announced"); len(all) != 3 || !slices.ContainsFunc(all, func(l map[string]string) bool { return cmp.Equal(l, want) }) {
		t.Errorf("no series %v beside those of layer 2 in %v", want, all)
	}
	r.Changed([]desired.Decision{notOwner(key, "node-b"), told(key, "node-a", true, by("tor1", "node-b"))}, nil)
	if n := gaugeSeries(t, r, "metallb_speaker_announced"); n != 0 {
		t.Errorf("%d series after the withdrawal", n)
	}
	if v := gauge(t, r, "metallb_k8s_client_updates_total"); v != 4 {
		t.Errorf("%v updates, want 4", v)
	}
	if v := gauge(t, r, "metallb_k8s_client_config_loaded_bool"); v != 0 {
		t.Errorf("loaded is %v before there is a configuration", v)
	}
	r.SetProblems([]config.Problem{{Kind: "IPAddressPool", Severity: config.Error}})
	if l, s := gauge(t, r, "metallb_k8s_client_config_loaded_bool"), gauge(t, r, "metallb_k8s_client_config_stale_bool"); l != 1 || s != 1 {
		t.Errorf("loaded %v and stale %v with an error, want 1 and 1", l, s)
	}
	r.SetProblems([]config.Problem{{Kind: "IPAddressPool", Severity: config.Warning}})
	if s := gauge(t, r, "metallb_k8s_client_config_stale_bool"); s != 0 {
		t.Errorf("stale is %v with a warning, want 0", s)
	}
}

func TestConfigurationState(t *testing.T) {
	c := newFake(t)
	r := c.start(t, "node-a", "ds-1", true)
	quiet(t, c, r)
	if n := len(c.writes()); n != 0 {
		t.Errorf("%d writes before the configuration is compiled", n)
	}
	bad := config.Problem{Kind: "IPAddressPool", Name: "pool", Field: "spec.addresses[0]", Severity: config.Error, Message: "no"}
	for range 10 {
		r.SetProblems([]config.Problem{bad})
	}
	result := func(want string) func() bool {
		return func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			s := c.states["speaker-node-a"]
			return s != nil && string(s.Status.Result) == want
		}
	}
	eventually(t, "invalid", result("Invalid"))
	quiet(t, c, r)
	want := []string{"create speaker-node-a", "state speaker-node-a Invalid", "event IPAddressPool IPAddressPool pool, spec.addresses[0]: no"}
	if diff := cmp.Diff(want, c.writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}

	c.mu.Lock()
	s := c.states["speaker-node-a"]
	delete(c.states, "speaker-node-a")
	c.tell(func(h handlers) { h.stateSeen(s, true) })
	c.mu.Unlock()
	eventually(t, "it comes back when somebody deletes it", result("Invalid"))

	r.SetProblems(nil)
	eventually(t, "valid", result("Valid"))
	r.SetProblems([]config.Problem{bad})
	eventually(t, "a problem that comes back is told again", func() bool { return count(c.writes(), "event") == 2 })

	c.mu.Lock()
	c.fail["state"] = 2
	c.mu.Unlock()
	r.SetProblems(nil)
	eventually(t, "a failed write is tried again", result("Valid"))
}

func TestOnlyOneNodeTellsTheObjects(t *testing.T) {
	c := newFake(t)
	r := c.start(t, "node-b", "ds-1", false)
	r.SetProblems([]config.Problem{{Kind: "IPAddressPool", Name: "pool", Severity: config.Error, Message: "no"}})
	eventually(t, "the state is written", func() bool { return count(c.writes(), "state") == 1 })
	quiet(t, c, r)
	if n := count(c.writes(), "event"); n != 0 {
		t.Errorf("%d events by a node that is not to tell", n)
	}
}

func labelsOf(t *testing.T, r *running, name string) []map[string]string {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			l := map[string]string{}
			for _, p := range m.GetLabel() {
				l[p.GetName()] = p.GetValue()
			}
			all = append(all, l)
		}
	}
	return all
}

func gaugeSeries(t *testing.T, r *running, name string) int {
	t.Helper()
	return len(labelsOf(t, r, name))
}

func gauge(t *testing.T, r *running, name string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

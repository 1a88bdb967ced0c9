package report

import (
	"strings"
	"testing"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
)

// by are nodes that all advertise to the same peers.
func by(peers string, nodes ...string) []desired.Advertiser {
	var all []desired.Advertiser
	for _, n := range nodes {
		all = append(all, desired.Advertiser{Node: n, Peers: strings.Fields(peers)})
	}
	return all
}

// advertised is the Decision of node-a, which reports.
func advertised(advertisers []desired.Advertiser) *desired.Decision {
	d := &desired.Decision{Service: web, Protocol: desired.BGP, Reports: true, Reason: reason.NodeNotSelected, Message: "not here", Advertisers: advertisers}
	for _, a := range advertisers {
		if a.Node == "node-a" {
			d.Announce, d.Peers, d.Reason, d.Message = true, a.Peers, reason.Advertised, "here"
		}
	}
	return d
}

// refused is the Decision of who reports that no node advertises the Service.
func refused(r reason.Reason, message string) *desired.Decision {
	return &desired.Decision{Service: web, Protocol: desired.BGP, Reports: true, Reason: r, Message: "of this node", Outcome: desired.Outcome{Reason: r, Message: message}}
}

// deaf is d for a Service that asks for what cannot be understood.
func deaf(d *desired.Decision) *desired.Decision {
	d.Ignored = "heraldlb.io/bgp-med: what"
	return d
}

func TestTheConditionSpeaksForBothProtocols(t *testing.T) {
	for _, tt := range []struct {
		name        string
		layer2, bgp *desired.Decision
		unreached   string
		status      metav1.ConditionStatus
		reason      reason.Reason
		message     string
	}{
		{"layer 2 alone, in MetalLB's words", announces(), nil, "",
			metav1.ConditionTrue, reason.Elected, assigned},
		{"BGP alone, from one node", nil, advertised(by("tor1", "node-a")), "",
			metav1.ConditionTrue, reason.Advertised, "node-a advertises it to tor1 by BGP"},
		{"BGP alone, from other nodes than the one that reports", nil, advertised(by("tor1 tor2", "node-b", "node-c")), "",
			metav1.ConditionTrue, reason.Advertised, "node-b and node-c advertise it to tor1 and tor2 by BGP"},
		{"three names are given", nil, advertised(by("tor1 tor2 tor3", "node-a", "node-b", "node-c")), "",
			metav1.ConditionTrue, reason.Advertised, "node-a, node-b and node-c advertise it to tor1, tor2 and tor3 by BGP"},
		{"of more, two: the fiftieth node changes no Service", nil, advertised(by("t1 t2 t3 t4", "node-a", "node-b", "node-c", "node-d")), "",
			metav1.ConditionTrue, reason.Advertised, "node-a, node-b and more advertise it to t1, t2 and more by BGP"},
		{"the nodes have different peers", nil, advertised(append(by("tor2", "node-a"), by("tor1", "node-b")...)), "",
			metav1.ConditionTrue, reason.Advertised, "node-a and node-b advertise it to tor1 and tor2 by BGP"},
		{"an annotation that makes no sense is told of", nil, deaf(advertised(by("tor1", "node-a"))), "",
			metav1.ConditionTrue, reason.Advertised, "node-a advertises it to tor1 by BGP (InvalidBGPAttribute: heraldlb.io/bgp-med: what)"},
		{"both", announces(), advertised(by("tor1", "node-b")), "",
			metav1.ConditionTrue, reason.Elected, assigned + "; node-b advertises it to tor1 by BGP"},
		{"layer 2 works and BGP does not", announces(), refused(reason.NodeNotSelected, "No node is selected."), "",
			metav1.ConditionTrue, reason.Elected, assigned + "; by BGP nobody advertises it: No node is selected."},
		{"BGP works and layer 2 does not", declines(reason.NoEndpoints, true), advertised(by("tor1", "node-b")), "",
			metav1.ConditionTrue, reason.Advertised, "node-b advertises it to tor1 by BGP; on layer 2 nobody announces it: because"},
		{"BGP works and no interface announces", announces(), advertised(by("tor1", "node-b")), "192.0.2.1: no.",
			metav1.ConditionTrue, reason.Advertised, `node-b advertises it to tor1 by BGP; on layer 2 nobody announces it: node "node-a" owns the Service and cannot announce 192.0.2.1: no.`},
		{"meant for BGP alone: layer 2 is not said to fail", declines(reason.NoAdvertisement, true), advertised(by("tor1", "node-b")), "",
			metav1.ConditionTrue, reason.Advertised, "node-b advertises it to tor1 by BGP"},
		{"meant for BGP alone, which fails: layer 2 is not named", declines(reason.NoAdvertisement, true), refused(reason.NoEndpoints, "None."), "",
			metav1.ConditionFalse, reason.NoEndpoints, "None."},
		{"meant for layer 2 alone: BGP is not said to fail", announces(), refused(reason.NoAdvertisement, "None applies."), "",
			metav1.ConditionTrue, reason.Elected, assigned},
		{"meant for nobody", declines(reason.NoAdvertisement, true), refused(reason.NoAdvertisement, "because"), "",
			metav1.ConditionFalse, reason.NoAdvertisement, "because"},
		{"both fail for one reason: it is told once", declines(reason.NoEndpoints, true), refused(reason.NoEndpoints, "because"), "",
			metav1.ConditionFalse, reason.NoEndpoints, "because"},
		{"both fail for their own reasons: layer 2 comes first", declines(reason.NodeNotAlive, true), refused(reason.NodeNotSelected, "Nor that."), "",
			metav1.ConditionFalse, reason.NodeNotAlive, "On layer 2: because By BGP: Nor that."},
		{"BGP alone fails", nil, refused(reason.NoLocalEndpoints, "No node has a pod."), "",
			metav1.ConditionFalse, reason.NoLocalEndpoints, "No node has a pod."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := facts{key: web, there: true, layer2: tt.layer2, bgp: tt.bgp, unreached: tt.unreached}
			got := me.decide(f, now).condition
			if got == nil {
				t.Fatal("no condition is written")
			}
			if got.Status != tt.status || got.Reason != string(tt.reason) || got.Message != tt.message {
				t.Errorf("got  %s %s %q\nwant %s %s %q", got.Status, got.Reason, got.Message, tt.status, tt.reason, tt.message)
			}
			f.condition = got
			if again := me.decide(f, now); again.condition != nil {
				t.Errorf("it is written again: %+v", again.condition)
			}
		})
	}
}

// What either protocol says must fit, and an event holds no more than 1,024.
func TestTheConditionIsBounded(t *testing.T) {
	long := strings.Repeat("ü long story, ", 500)
	d := declines(reason.NoEndpoints, true)
	d.Message = long
	for name, f := range map[string]facts{
		"both fail":         {layer2: d, bgp: refused(reason.NodeNotSelected, "x"+long)},
		"long names":        {bgp: advertised(by(strings.Repeat("p", 253)+" "+strings.Repeat("q", 253), strings.Repeat("n", 253), strings.Repeat("m", 253)))},
		"nothing announces": {layer2: announces(), unreached: long, bgp: advertised(by("tor1", "node-b"))},
	} {
		t.Run(name, func(t *testing.T) {
			f.key, f.there = web, true
			c := me.decide(f, now).condition
			if len(c.Message) > maxNote || !utf8.ValidString(c.Message) {
				t.Errorf("%d bytes, want at most %d whole characters: %s", len(c.Message), maxNote, c.Message)
			}
		})
	}
}

// Events are about transitions of one protocol; the other's are none of it.
func TestEventsOfOneProtocolDoNotRepeatForTheOther(t *testing.T) {
	mine := []desired.Advertiser{{Node: "node-a", Peers: []string{"tor1"}}}
	c := newFake(t)
	key := c.addService("web")
	r := c.start(t, "node-a", "ds-1", false)
	l2, bgp := owns(key, "node-a"), *advertised(mine)
	bgp.Service = key
	broken := l2
	broken.Announce, broken.Reason, broken.Message = false, reason.InterfaceMissing, "eth9 is missing"
	none := *refused(reason.NoLocalEndpoints, "No node has a pod.")
	none.Service = key
	for _, step := range []struct {
		name   string
		tell   []desired.Decision
		events []string
	}{
		{"layer 2 announces", []desired.Decision{l2}, []string{"nodeAssigned: " + assigned}},
		{"BGP comes", []desired.Decision{bgp}, []string{`nodeAssigned: announcing from node "node-a" with protocol "bgp"`}},
		{"layer 2 fails", []desired.Decision{broken}, []string{"announceFailed: eth9 is missing"}},
		{"BGP goes", []desired.Decision{none}, []string{"serviceWithdrawn: no node advertises it by BGP any more: No node has a pod."}},
		{"BGP comes back", []desired.Decision{bgp}, []string{`nodeAssigned: announcing from node "node-a" with protocol "bgp"`}},
		{"layer 2 comes back", []desired.Decision{l2}, []string{"nodeAssigned: " + assigned}},
	} {
		before := len(c.writes())
		r.Changed(step.tell, nil)
		quiet(t, c, r)
		var events []string
		for _, line := range c.writes()[before:] {
			if event, ok := strings.CutPrefix(line, "event default/web "); ok {
				events = append(events, event)
			}
		}
		if strings.Join(events, "\n") != strings.Join(step.events, "\n") {
			t.Errorf("%s: events %q, want %q", step.name, events, step.events)
		}
	}
}

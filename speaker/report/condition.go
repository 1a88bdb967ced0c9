package report

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/status"
	"github.com/heraldlb/herald/speaker/desired"
)

// maxClause bounds what the condition says of one protocol, so that what it
// says of both is no longer than an event may be.
const maxClause = 450

// clause is what is to be said of one protocol.
type clause struct {
	announced bool
	reason    reason.Reason
	text      string
	// failed is true if what was decided has no effect, or cannot have one.
	failed bool
}

// silent tells whether there is nothing to say beside what is said of the other
// protocol: that no advertisement applies is no failure of what was not meant.
func (c clause) silent(other clause) bool {
	return c.reason == "" || c.reason == reason.NoAdvertisement && other.reason != ""
}

// layer2 is what is to be said of layer 2 by the node that reports.
func (me identity) layer2(f facts) clause {
	d := f.layer2
	switch {
	case d == nil:
		return clause{}
	case d.Announce && f.unreached != "":
		return clause{
			reason: reason.InterfaceMissing, failed: true,
			text: clip(fmt.Sprintf("node %q owns the Service and cannot announce %s", me.node, f.unreached)),
		}
	case d.Announce:
		return clause{announced: true, reason: d.Reason, text: announcingFrom(me.node, d.Protocol)}
	}
	return clause{reason: d.Reason, text: clip(d.Message), failed: d.Reason == reason.InterfaceMissing}
}

// bgp is what is to be said of BGP by the node that reports.
func (me identity) bgp(f facts) clause {
	d := f.bgp
	switch {
	case d == nil:
		return clause{}
	case len(d.Advertisers) > 0:
		return clause{announced: true, reason: reason.Advertised, text: clip(advertise(d.Advertisers) + unheard(d.Ignored))}
	}
	return clause{reason: d.Outcome.Reason, text: clip(d.Outcome.Message + unheard(d.Ignored))}
}

// unheard tells of what a Service asked for and does not get.
func unheard(ignored string) string {
	if ignored == "" {
		return ""
	}
	return fmt.Sprintf(" (%s: %s)", reason.InvalidBGPAttribute, ignored)
}

// merge is the one verdict on both protocols: the Service is announced if one
// of them announces it. What fails is told beside what works.
func merge(layer2, bgp clause) (verdict metav1.ConditionStatus, why reason.Reason, message string) {
	switch {
	case bgp.silent(layer2):
		return truth(layer2.announced), layer2.reason, layer2.text
	case layer2.silent(bgp):
		return truth(bgp.announced), bgp.reason, bgp.text
	case layer2.announced && bgp.announced:
		return metav1.ConditionTrue, layer2.reason, layer2.text + "; " + bgp.text
	case layer2.announced:
		return metav1.ConditionTrue, layer2.reason, layer2.text + "; by BGP nobody advertises it: " + bgp.text
	case bgp.announced:
		return metav1.ConditionTrue, bgp.reason, bgp.text + "; on layer 2 nobody announces it: " + layer2.text
	case layer2.text == bgp.text:
		return metav1.ConditionFalse, layer2.reason, layer2.text
	}
	return metav1.ConditionFalse, layer2.reason, "On layer 2: " + layer2.text + " By BGP: " + bgp.text
}

func truth(b bool) metav1.ConditionStatus {
	if b {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

// decideCondition is asked on the node that reports.
func (me identity) decideCondition(f facts, now metav1.Time, w *writes) {
	layer2, bgp := me.layer2(f), me.bgp(f)
	want := metav1.Condition{Type: ConditionAnnounced, ObservedGeneration: f.generation, LastTransitionTime: now}
	var why reason.Reason
	want.Status, why, want.Message = merge(layer2, bgp)
	want.Reason = string(why)
	same := f.condition != nil && sameVerdict(*f.condition, want)
	if f.condition != nil && f.condition.Status == want.Status {
		want.LastTransitionTime = f.condition.LastTransitionTime
	}
	if !same || f.condition.ObservedGeneration != want.ObservedGeneration {
		w.condition = &want
	}
	// The condition remembers what was told of layer 2, over restarts and on
	// whichever node; for BGP the ServiceBGPStatus does.
	if f.condition != nil && strings.Contains(f.condition.Message, layer2.text) {
		return
	}
	switch {
	case layer2.announced:
		w.events = append(w.events, note{reason: eventAssigned, text: layer2.text})
	case layer2.failed:
		w.events = append(w.events, note{warning: true, reason: eventFailed, text: layer2.text})
	}
}

// announcingFrom are MetalLB's words, which people and programs look for.
func announcingFrom(node string, p desired.Protocol) string {
	return fmt.Sprintf("announcing from node %q with protocol %q", node, p)
}

// advertise names the first nodes and peers only, and does not count the rest:
// the condition of each Service would be written whenever a node comes or goes.
// The ServiceBGPStatus has them all.
func advertise(by []desired.Advertiser) string {
	nodes := make([]string, 0, len(by))
	for _, a := range by {
		nodes = append(nodes, a.Node)
	}
	verb := "advertise"
	if len(nodes) == 1 {
		verb = "advertises"
	}
	return fmt.Sprintf("%s %s it to %s by BGP", some(nodes), verb, some(peersOf(by)))
}

// maxNamed is how many names are given before the rest is "more".
const maxNamed = 3

// some lists names, the first two and "more" if there are too many.
func some(names []string) string {
	switch {
	case len(names) == 0:
		return "nobody"
	case len(names) == 1:
		return names[0]
	case len(names) > maxNamed:
		return strings.Join(names[:maxNamed-1], ", ") + " and more"
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// clip bounds a text.
func clip(text string) string { return cut(text, maxClause) }

// cut shortens a text to a number of bytes, between two characters.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit-len("…")], "") + "…"
}

func sameVerdict(a, b metav1.Condition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}

// announced returns the condition of a Service, nil if it has none.
func announced(svc *corev1.Service) *metav1.Condition {
	return status.Find(svc.Status.Conditions, ConditionAnnounced)
}

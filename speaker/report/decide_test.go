package report

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

var (
	web  = service.Key{Namespace: "default", Name: "web"}
	me   = identity{node: "node-a", namespace: "herald", owner: metav1.OwnerReference{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "speaker", UID: "ds-1"}}
	past = metav1.NewTime(time.Unix(1000, 0))
	now  = metav1.NewTime(time.Unix(2000, 0))
)

const assigned = `announcing from node "node-a" with protocol "layer2"`

func announces(interfaces ...string) *desired.Decision {
	return &desired.Decision{Service: web, Protocol: desired.Layer2, Announce: true, Reports: true, Owner: "node-a", Interfaces: interfaces, Reason: reason.Elected, Message: "This node owns it."}
}

func declines(r reason.Reason, reports bool) *desired.Decision {
	return &desired.Decision{Service: web, Protocol: desired.Layer2, Reports: reports, Reason: r, Message: "because"}
}

// object is the ServiceL2Status of a node, as it is after both writes.
func object(node string, owner metav1.OwnerReference, interfaces ...string) *v1beta1.ServiceL2Status {
	i := identity{node: node, namespace: "herald", owner: owner}
	var w writes
	i.decideStatus(facts{key: web, there: true, layer2: &desired.Decision{Service: web, Protocol: desired.Layer2, Announce: true, Interfaces: interfaces}}, &w)
	s := w.create
	s.Status = *w.status
	return s
}

func condition(status metav1.ConditionStatus, r reason.Reason, message string) *metav1.Condition {
	return &metav1.Condition{Type: ConditionAnnounced, Status: status, Reason: string(r), Message: message, ObservedGeneration: 3, LastTransitionTime: past}
}

func TestDecide(t *testing.T) {
	mine := statusName(web, "node-a")
	theirs := statusName(web, "node-b")
	oldOwner := metav1.OwnerReference{UID: "ds-0"}
	byHand := object("node-a", me.owner)
	byHand.Name = "l2-x7k2p"
	going := object("node-a", me.owner)
	going.DeletionTimestamp = &past
	at := func(c *metav1.Condition, when metav1.Time) *metav1.Condition {
		c.LastTransitionTime = when
		return c
	}
	all := &v1beta1.ServiceL2StatusStatus{Node: "node-a", ServiceName: "web", ServiceNamespace: "default"}
	for _, tt := range []struct {
		name  string
		facts facts
		want  writes
	}{
		{"a Service is announced for the first time",
			facts{there: true, layer2: announces("eth1", "eth0")},
			writes{
				create: &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{
					Namespace: "herald", Name: mine, OwnerReferences: []metav1.OwnerReference{me.owner},
					Labels: map[string]string{"metallb.io/node": "node-a", "metallb.io/service-name": "web", "metallb.io/service-namespace": "default"},
				}},
				status: &v1beta1.ServiceL2StatusStatus{Node: "node-a", ServiceName: "web", ServiceNamespace: "default",
					Interfaces: []v1beta1.InterfaceInfo{{Name: "eth0"}, {Name: "eth1"}}},
				statusName: mine,
				condition:  at(condition(metav1.ConditionTrue, reason.Elected, assigned), now),
				events:     []note{{reason: "nodeAssigned", text: assigned}},
			}},
		{"all is as it should be: nothing is written",
			facts{there: true, layer2: announces("eth1", "eth0"), reported: true, condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				statuses: []*v1beta1.ServiceL2Status{object("node-a", me.owner, "eth0", "eth1")}},
			writes{}},
		{"the interfaces in another order: nothing is written",
			facts{there: true, layer2: announces("eth0", "eth1"), condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				statuses: []*v1beta1.ServiceL2Status{object("node-a", me.owner, "eth1", "eth0")}},
			writes{}},
		{"the interfaces change: one write, and no event",
			facts{there: true, layer2: announces(), condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				statuses: []*v1beta1.ServiceL2Status{object("node-a", me.owner, "eth0")}},
			writes{status: all, statusName: mine}},
		{"the DaemonSet is a new one: the object would go with the old, nothing else is told again",
			facts{there: true, layer2: announces(), condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				statuses: []*v1beta1.ServiceL2Status{object("node-a", oldOwner)}},
			writes{replace: mine, create: stripped(object("node-a", me.owner)), status: all, statusName: mine}},
		{"taken over from another node: that node's object goes",
			facts{there: true, layer2: announces(), condition: condition(metav1.ConditionTrue, reason.Elected, strings.ReplaceAll(assigned, "node-a", "node-b")),
				statuses: []*v1beta1.ServiceL2Status{object("node-b", me.owner)}},
			writes{create: stripped(object("node-a", me.owner)), status: all, statusName: mine, remove: []string{theirs},
				// Announced before and after: the transition is not one of the status.
				condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				events:    []note{{reason: "nodeAssigned", text: assigned}}}},
		{"another object of this node, by another hand, goes",
			facts{there: true, layer2: announces(), condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				statuses: []*v1beta1.ServiceL2Status{object("node-a", me.owner), byHand}},
			writes{remove: []string{"l2-x7k2p"}}},
		{"an object that is being deleted counts as gone",
			facts{there: true, layer2: announces(), condition: condition(metav1.ConditionTrue, reason.Elected, assigned), statuses: []*v1beta1.ServiceL2Status{going}},
			writes{create: stripped(object("node-a", me.owner)), status: all, statusName: mine}},
		{"lost to another node: the own object goes, the rest is the other's",
			facts{there: true, layer2: declines(reason.NotOwner, false), condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				statuses: []*v1beta1.ServiceL2Status{object("node-a", me.owner), object("node-b", me.owner)}},
			writes{remove: []string{mine}}},
		{"nobody can serve it, and this node says so, and clears up after the last owner",
			facts{there: true, generation: 3, layer2: declines(reason.NoEndpoints, true), condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				statuses: []*v1beta1.ServiceL2Status{object("node-b", me.owner)}},
			writes{remove: []string{theirs}, condition: at(condition(metav1.ConditionFalse, reason.NoEndpoints, "because"), now)}},
		{"an interface is missing: a warning",
			facts{there: true, generation: 3, layer2: declines(reason.InterfaceMissing, true)},
			writes{condition: at(condition(metav1.ConditionFalse, reason.InterfaceMissing, "because"), now),
				events: []note{{warning: true, reason: "announceFailed", text: "because"}}}},
		{"no interface announces what this node owns: a warning",
			facts{there: true, layer2: announces(), unreached: "192.0.2.1: eth0: no.", condition: condition(metav1.ConditionTrue, reason.Elected, assigned),
				statuses: []*v1beta1.ServiceL2Status{object("node-a", me.owner)}},
			writes{condition: at(condition(metav1.ConditionFalse, reason.InterfaceMissing, `node "node-a" owns the Service and cannot announce 192.0.2.1: eth0: no.`), now),
				events: []note{{warning: true, reason: "announceFailed", text: `node "node-a" owns the Service and cannot announce 192.0.2.1: eth0: no.`}}}},
		{"and no second warning",
			facts{there: true, generation: 3, layer2: declines(reason.InterfaceMissing, true), condition: condition(metav1.ConditionFalse, reason.InterfaceMissing, "because")},
			writes{}},
		{"the Service changed and the verdict did not: the generation follows, no event",
			facts{there: true, generation: 4, layer2: declines(reason.NoEndpoints, true), condition: condition(metav1.ConditionFalse, reason.NoEndpoints, "because")},
			writes{condition: func() *metav1.Condition {
				c := condition(metav1.ConditionFalse, reason.NoEndpoints, "because")
				c.ObservedGeneration = 4
				return c
			}()}},
		{"the plan forgot the Service, which this node reported",
			facts{there: true, reported: true, condition: condition(metav1.ConditionTrue, reason.Elected, assigned), statuses: []*v1beta1.ServiceL2Status{object("node-a", me.owner)}},
			writes{remove: []string{mine}, forget: true}},
		{"the plan forgot the Service, which another node reported",
			facts{there: true, condition: condition(metav1.ConditionTrue, reason.Elected, "other"), statuses: []*v1beta1.ServiceL2Status{object("node-b", me.owner)}},
			writes{}},
		{"neither the plan nor the cluster knows the Service: the first node clears up after others",
			facts{sweeps: true, statuses: []*v1beta1.ServiceL2Status{object("node-b", me.owner)}},
			writes{remove: []string{theirs}}},
		{"and does not while the Service is there: the plan may not know it yet",
			facts{there: true, sweeps: true, statuses: []*v1beta1.ServiceL2Status{object("node-b", me.owner)}},
			writes{}},
		{"the Service is gone while it is announced",
			facts{layer2: announces(), statuses: []*v1beta1.ServiceL2Status{object("node-a", me.owner)}},
			writes{remove: []string{mine}}},
		{"BGP has no ServiceL2Status",
			facts{there: true, bgp: &desired.Decision{Protocol: desired.BGP, Announce: true}},
			writes{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.key = web
			if tt.facts.generation == 0 {
				tt.facts.generation = 3
			}
			got := me.decide(tt.facts, now)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(writes{}, bgpWrites{}, note{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// stripped is the object as it is created: without a status.
func stripped(s *v1beta1.ServiceL2Status) *v1beta1.ServiceL2Status {
	s.Status = v1beta1.ServiceL2StatusStatus{}
	return s
}

func TestNamesThatAreTooLong(t *testing.T) {
	long := strings.Repeat("very-long-node-name.", 12) + "example"
	other := long[:len(long)-1] + "s"
	for _, s := range []string{labelValue(long), labelValue("node-a")} {
		if errs := validation.IsValidLabelValue(s); len(errs) > 0 {
			t.Errorf("%q is no label value: %v", s, errs)
		}
	}
	if labelValue("node-a") != "node-a" {
		t.Error("a short name was changed")
	}
	if labelValue(long) == labelValue(other) {
		t.Error("two long names have one label")
	}
	i := identity{node: long, namespace: "herald"}
	if got := i.status(web, nil).Node; got != long {
		t.Errorf("the status names %q, want the full name", got)
	}
	for _, s := range []string{stateName(long), stateName(strings.Repeat("n", 253)), statusName(web, long)} {
		if errs := validation.IsDNS1123Subdomain(s); len(errs) > 0 {
			t.Errorf("%q is no object name: %v", s, errs)
		}
	}
	if stateName("node-a") != "speaker-node-a" {
		t.Errorf("the state of node-a is named %q", stateName("node-a"))
	}
}

func TestDecideState(t *testing.T) {
	bad := config.Problem{Kind: "IPAddressPool", Name: "pool", Field: "spec.addresses[0]", Severity: config.Error, Message: `"10.0.0.0/33" is not a prefix`}
	odd := config.Problem{Kind: "L2Advertisement", Name: "adv", Severity: config.Warning, Message: "selects no pool"}
	const sentence = `configuration error: IPAddressPool pool, spec.addresses[0]: "10.0.0.0/33" is not a prefix`
	valid := func(message string, when metav1.Time) *v1beta1.ConfigurationStateStatus {
		return &v1beta1.ConfigurationStateStatus{Result: v1beta1.ConfigurationValid, Conditions: []metav1.Condition{
			{Type: "configReconcilerValid", Status: metav1.ConditionTrue, Reason: "Reconciled", Message: message, LastTransitionTime: when}}}
	}
	invalid := &v1beta1.ConfigurationStateStatus{Result: v1beta1.ConfigurationInvalid, ErrorSummary: sentence, Conditions: []metav1.Condition{
		{Type: "configReconcilerValid", Status: metav1.ConditionFalse, Reason: "ConfigurationError", Message: sentence, LastTransitionTime: now}}}
	is := func(s *v1beta1.ConfigurationStateStatus) *v1beta1.ConfigurationState {
		return &v1beta1.ConfigurationState{Status: *s}
	}
	for _, tt := range []struct {
		name     string
		have     *v1beta1.ConfigurationState
		problems []config.Problem
		want     *v1beta1.ConfigurationStateStatus
	}{
		{"nothing there", nil, nil, valid("", now)},
		{"created but not written", &v1beta1.ConfigurationState{}, nil, valid("", now)},
		{"nothing changed: nothing is written", is(valid("", past)), nil, nil},
		{"an error", is(valid("", past)), []config.Problem{bad, odd}, invalid},
		{"the same error", is(invalid), []config.Problem{bad}, nil},
		{"a warning leaves it valid, and is no transition", is(valid("", past)), []config.Problem{odd}, valid("L2Advertisement adv: selects no pool", past)},
		{"somebody changed the result by hand", &v1beta1.ConfigurationState{Status: v1beta1.ConfigurationStateStatus{Result: "Invalid", Conditions: valid("", past).Conditions}}, nil, valid("", past)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, decideState(tt.have, tt.problems, now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	var many []config.Problem
	for range maxProblems + 7 {
		many = append(many, bad)
	}
	if got := decideState(nil, many, now).ErrorSummary; !strings.HasSuffix(got, "\nand 7 more") {
		t.Errorf("the summary of many errors ends in %q", got[len(got)-40:])
	}
}

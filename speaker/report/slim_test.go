package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
)

// What the cache drops must not change what is decided.
func TestSlimStatusesLoseNothingThatDecides(t *testing.T) {
	full := func(change func(*v1beta1.ServiceL2Status)) *v1beta1.ServiceL2Status {
		s := object("node-a", me.owner, "eth0", "eth1")
		s.UID, s.ResourceVersion, s.Annotations = "u1", "7", map[string]string{"a": "b"}
		s.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "speaker"}}
		if change != nil {
			change(s)
		}
		return s
	}
	slim := slimStatuses()
	for name, s := range map[string]*v1beta1.ServiceL2Status{
		"our own":                  full(nil),
		"another node's":           object("node-b", me.owner),
		"of an owner that is gone": object("node-a", metav1.OwnerReference{UID: "ds-0"}, "eth0", "eth1"),
		"being deleted":            full(func(s *v1beta1.ServiceL2Status) { s.DeletionTimestamp = &past }),
		"without a status yet":     full(func(s *v1beta1.ServiceL2Status) { s.Status = v1beta1.ServiceL2StatusStatus{} }),
		"with other interfaces":    full(func(s *v1beta1.ServiceL2Status) { s.Status.Interfaces = nil }),
		"by another hand":          full(func(s *v1beta1.ServiceL2Status) { s.Name, s.OwnerReferences = "l2-x7k2p", nil }),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := slim(s.DeepCopy())
			if err != nil {
				t.Fatal(err)
			}
			kept := got.(*v1beta1.ServiceL2Status)
			decide := func(s *v1beta1.ServiceL2Status) writes {
				return me.decide(facts{key: web, there: true, layer2: announces("eth0", "eth1"), statuses: []*v1beta1.ServiceL2Status{s}}, now)
			}
			if diff := cmp.Diff(decide(s), decide(kept), cmp.AllowUnexported(writes{}, bgpWrites{}, note{})); diff != "" {
				t.Errorf("decided (-full +slim):\n%s", diff)
			}
			if got := statusKey(kept); got != web {
				t.Errorf("it is about Service %s, want %s", got, web)
			}
			if kept.UID != s.UID || kept.ResourceVersion != s.ResourceVersion {
				t.Errorf("UID %q, version %q; want %q, %q", kept.UID, kept.ResourceVersion, s.UID, s.ResourceVersion)
			}
		})
	}
}

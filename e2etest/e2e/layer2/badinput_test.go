//go:build lab

package layer2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

// Objects that are wrong harm themselves only: what is sound keeps working, also
// what is created meanwhile, and the user reads what is wrong in the
// ConfigurationState of every component and in an event on the object.
func TestBadObjectsBesideGoodOnes(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		// bad applies the object and returns its name.
		bad      func(s *stage) string
		sentence string
	}{
		{"PoolOverMixedFamilies", "IPAddressPool", func(s *stage) string {
			return s.Pool("bad", `addresses: ["192.168.200.5-fd00:200::5"]`)
		}, "expected two addresses of one family"},
		{"PoolThatOverlaps", "IPAddressPool", func(s *stage) string {
			return s.Pool("bad", "addresses: ["+s.addrs[0].String()+"/32]")
		}, "overlaps"},
		{"RangeWithItsEndFirst", "IPAddressPool", func(s *stage) string {
			return s.Pool("bad", `addresses: ["192.168.200.9-192.168.200.5"]`)
		}, "its start is after its end"},
		{"AdvertisementWithABadSelector", "L2Advertisement", func(s *stage) string {
			return s.Advertise("bad", `ipAddressPools: [`+s.pool+`], nodeSelectors: [{matchLabels: {"not a key!": x}}]`)
		}, "not a key!"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := stageFor(t, "")
			owner := s.WaitOwner("web")
			s.AnsweredBy(owner, s.addrs...)
			s.configuration("Valid", "")

			bad := tt.bad(s)
			s.configuration("Invalid", tt.kind+" "+bad, tt.sentence)
			s.Eventually(harness.Patience, func() error {
				events, err := s.EventsOf(herald.Namespace, tt.kind, bad)
				for _, e := range events {
					if e.Type == "Warning" && strings.Contains(e.Note, tt.sentence) {
						return nil
					}
				}
				return fmt.Errorf("the events on %s %s are %+v, want a Warning with %q: %w", tt.kind, bad, events, tt.sentence, err)
			})

			s.web("later")
			s.AnsweredBy(s.WaitOwner("later"), s.WaitAddresses("later", 2)...)
			s.announcedBy(owner)

			kinds := map[string]schema.GroupVersionResource{"IPAddressPool": harness.Pools, "L2Advertisement": harness.L2Advertisements}
			s.Delete(kinds[tt.kind], bad)
			s.configuration("Valid", "")
		})
	}
}

// configuration waits until the ConfigurationState of the controller and of every
// speaker has a result, and a summary that holds some texts.
func (s *stage) configuration(result string, texts ...string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		list, err := s.Dynamic.Resource(harness.ConfigurationStates).Namespace(herald.Namespace).List(s.Ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if want := 1 + len(s.Nodes()); len(list.Items) != want {
			return fmt.Errorf("%d ConfigurationStates, want %d", len(list.Items), want)
		}
		for _, o := range list.Items {
			got, _, _ := unstructured.NestedString(o.Object, "status", "result")
			summary, _, _ := unstructured.NestedString(o.Object, "status", "errorSummary")
			if got != result {
				return fmt.Errorf("ConfigurationState %s is %s (%s), want %s", o.GetName(), got, summary, result)
			}
			for _, text := range texts {
				if !strings.Contains(summary, text) {
					return fmt.Errorf("ConfigurationState %s says %q, want %q in it", o.GetName(), summary, text)
				}
			}
		}
		return nil
	})
}

// What the schema can see is refused at once, with a sentence.
func TestAdmissionRefusesWhatItCanSee(t *testing.T) {
	t.Parallel()
	h := harness.New(t)
	object := func(kind, spec string) string {
		return "apiVersion: metallb.io/v1beta1\nkind: " + kind + "\nmetadata: {name: " + h.Namespace + "}\nspec: " + spec
	}
	for _, tt := range []struct{ name, object, sentence string }{
		{"a pool that is no range", object("IPAddressPool", `{addresses: ["10.0.0.0"]}`), "is not an address range"},
		{"a prefix that is too long", object("IPAddressPool", `{addresses: ["10.0.0.0/33"]}`), "is not an address range"},
		{"an unknown operator", object("L2Advertisement", `{nodeSelectors: [{matchExpressions: [{key: a, operator: Like, values: [b]}]}]}`), "unknown operator"},
		{"a weight of zero", object("L2Advertisement", `{preferredNodeSelectors: [{weight: 0, preference: {}}]}`), "weight"},
	} {
		if err := h.TryApply(tt.object); err == nil || !strings.Contains(err.Error(), tt.sentence) {
			t.Errorf("%s: got the error %v, want one with %q", tt.name, err, tt.sentence)
		}
	}
}

// A sharing Service of a pool whose advertisement selects Services is not
// announced, because one address cannot follow two labels; it says so.
func TestSharingAndServiceSelectorsContradict(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "serviceSelectors: ["+labelled("public")+"]", harness.Labelled("public", "yes"), harness.Sharing("us"))
	s.WaitCondition("web", harness.Announced, metav1.ConditionFalse, "SharedIPWithServiceSelector")
	s.WaitNoOwner("web")
	s.Unanswered("eth0", time.Second, s.addrs...)
}

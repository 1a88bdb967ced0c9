package service_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

func TestBGPAttributes(t *testing.T) {
	for _, tc := range []struct {
		name, annotations string
		want              service.BGP
	}{
		{"none", `{}`, service.BGP{}},
		{"empty ones ask for nothing", `{heraldlb.io/bgp-communities: "", heraldlb.io/bgp-local-pref: "", heraldlb.io/bgp-med: "", heraldlb.io/bgp-as-path-prepend: " "}`, service.BGP{}},
		{"all of them", `{heraldlb.io/bgp-communities: "64512:1, large:1:2:3,no-export,vpn blue", heraldlb.io/bgp-local-pref: "200", heraldlb.io/bgp-med: "4294967295", heraldlb.io/bgp-as-path-prepend: "10"}`,
			service.BGP{Communities: []string{"64512:1", "large:1:2:3", "no-export", "vpn blue"}, LocalPref: new(uint32(200)), MED: new(uint32(4294967295)), Prepend: new(uint8(10))}},
		{"zero is a value", `{heraldlb.io/bgp-local-pref: "0", heraldlb.io/bgp-med: "0", heraldlb.io/bgp-as-path-prepend: "0"}`,
			service.BGP{LocalPref: new(uint32(0)), MED: new(uint32(0)), Prepend: new(uint8(0))}},
		{"a community that is given twice", `{heraldlb.io/bgp-communities: "a,b,a"}`, service.BGP{Communities: []string{"a", "b"}}},
		{"the prefixes of MetalLB mean nothing here", `{metallb.io/bgp-med: "1", metallb.universe.tf/bgp-med: "1"}`, service.BGP{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := parse(t, "metadata: {annotations: "+tc.annotations+"}")
			if diff := cmp.Diff(tc.want, s.BGP); diff != "" || len(s.Problems) > 0 {
				t.Errorf("problems %v, (-want +got):\n%s", s.Problems, diff)
			}
		})
	}
}

// An annotation that cannot be understood says why, asks for nothing, and
// leaves the others alone.
func TestBGPAttributesThatCannotBeUnderstood(t *testing.T) {
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("64512:%d", i)
	}
	for _, tc := range []struct{ name, key, value, message string }{
		{"a comma too much", service.AnnotationBGPCommunities, "64512:1,", `heraldlb.io/bgp-communities: "64512:1," has an empty entry: expected communities or their names, joined by commas`},
		{"too many communities", service.AnnotationBGPCommunities, strings.Join(many, ","), `heraldlb.io/bgp-communities has too many entries: expected at most 64`},
		{"a word", service.AnnotationBGPLocalPref, "high", `heraldlb.io/bgp-local-pref: "high" cannot be read: expected a number from 0 to 4294967295`},
		{"a negative number", service.AnnotationBGPMED, "-1", `heraldlb.io/bgp-med: "-1" cannot be read: expected a number from 0 to 4294967295`},
		{"a number too large", service.AnnotationBGPMED, "4294967296", `heraldlb.io/bgp-med: "4294967296" cannot be read: expected a number from 0 to 4294967295`},
		{"too long a path", service.AnnotationBGPPrepend, "11", `heraldlb.io/bgp-as-path-prepend: "11" cannot be read: expected a number from 0 to 10`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all := map[string]string{
				service.AnnotationBGPCommunities: "64512:1", service.AnnotationBGPLocalPref: "1",
				service.AnnotationBGPMED: "2", service.AnnotationBGPPrepend: "3",
			}
			all[tc.key] = tc.value
			s := service.Parse(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: all}})
			problems := []service.Problem{{Field: tc.key, Reason: reason.InvalidBGPAttribute, Message: tc.message}}
			if diff := cmp.Diff(problems, s.Problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			want := service.BGP{Communities: []string{"64512:1"}, LocalPref: new(uint32(1)), MED: new(uint32(2)), Prepend: new(uint8(3))}
			switch tc.key {
			case service.AnnotationBGPCommunities:
				want.Communities = nil
			case service.AnnotationBGPLocalPref:
				want.LocalPref = nil
			case service.AnnotationBGPMED:
				want.MED = nil
			case service.AnnotationBGPPrepend:
				want.Prepend = nil
			}
			if diff := cmp.Diff(want, s.BGP); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
		})
	}
}

// The Service in the page that lists what MetalLB does not have is right.
func TestExampleOfBeyondMetalLB(t *testing.T) {
	text, err := os.ReadFile("../../docs/beyond-metallb.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```yaml\n(apiVersion: v1\nkind: Service\n.*?)```").FindStringSubmatch(string(text))
	if example == nil {
		t.Fatal("there is no Service")
	}
	s := parse(t, example[1])
	want := service.BGP{Communities: []string{"64512:200", "no-export"}, MED: new(uint32(50))}
	if diff := cmp.Diff(want, s.BGP); diff != "" || len(s.Problems) > 0 {
		t.Errorf("problems %v, (-want +got):\n%s", s.Problems, diff)
	}
	for _, key := range []string{service.AnnotationBGPCommunities, service.AnnotationBGPLocalPref, service.AnnotationBGPMED, service.AnnotationBGPPrepend} {
		if !strings.Contains(string(text), "| `"+key+"` |") {
			t.Errorf("the page does not list %s", key)
		}
	}
}

// FuzzBGP feeds the annotations of BGP.
func FuzzBGP(f *testing.F) {
	f.Add("64512:1, no-export", "100", "0", "10")
	f.Add(",", "-1", "4294967296", "11")
	f.Add("a,a,,", "1e3", "0x10", "٣")
	f.Fuzz(func(t *testing.T, communities, localPref, med, prepend string) {
		annotations := map[string]string{
			service.AnnotationBGPCommunities: communities, service.AnnotationBGPLocalPref: localPref,
			service.AnnotationBGPMED: med, service.AnnotationBGPPrepend: prepend,
		}
		s := service.Parse(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}})
		refused := map[string]bool{}
		for _, p := range s.Problems {
			if p.Reason != reason.InvalidBGPAttribute || refused[p.Field] {
				t.Fatalf("problems %v", s.Problems)
			}
			refused[p.Field] = true
		}
		served := map[string]bool{
			service.AnnotationBGPCommunities: s.BGP.Communities != nil, service.AnnotationBGPLocalPref: s.BGP.LocalPref != nil,
			service.AnnotationBGPMED: s.BGP.MED != nil, service.AnnotationBGPPrepend: s.BGP.Prepend != nil,
		}
		for key, text := range annotations {
			asked := text != "" && (key == service.AnnotationBGPCommunities || strings.TrimSpace(text) != "")
			if asked != (served[key] != refused[key]) || served[key] && refused[key] {
				t.Fatalf("%s: %q: served %t, refused %t", key, text, served[key], refused[key])
			}
		}
		if len(s.BGP.Communities) > 64 {
			t.Fatalf("%d communities", len(s.BGP.Communities))
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(med), 10, 32); err == nil && uint64(*s.BGP.MED) != n {
			t.Fatalf("MED %q became %d", med, *s.BGP.MED)
		}
	})
}

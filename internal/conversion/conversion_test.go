package conversion_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/conversion"
)

// review converts one object, written as YAML, as the API server asks for it.
func review(t *testing.T, object, desired string) (converted, failure string) {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	in := &apiextensionsv1.ConversionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "ConversionReview"},
		Request: &apiextensionsv1.ConversionRequest{
			UID: "42", DesiredAPIVersion: desired, Objects: []runtime.RawExtension{{Raw: raw}},
		},
	}
	out := conversion.Review(in)
	if out.Response.UID != "42" || out.TypeMeta != in.TypeMeta {
		t.Fatalf("the answer does not belong to the question: %+v", out)
	}
	if out.Response.Result.Status != metav1.StatusSuccess {
		return "", out.Response.Result.Message
	}
	text, err := yaml.JSONToYAML(out.Response.ConvertedObjects[0].Raw)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), ""
}

func TestReview(t *testing.T) {
	const v1, v2 = "metallb.io/v1beta1", "metallb.io/v1beta2"
	for _, tc := range []struct{ name, object, desired, want, failure string }{
		{"unset timers stay unset", `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system, uid: u}
spec: {myASN: 64512, peerASN: 4200000000, peerAddress: 10.0.0.1}
`, v2, `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system, uid: u}
spec: {myASN: 64512, peerASN: 4200000000, peerAddress: 10.0.0.1}
`, ""},
		{"everything that both versions have", `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: tor, labels: {a: b}, annotations: {c: d}}
spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, sourceAddress: 10.0.0.2, peerPort: 1790, holdTime: 90s, keepaliveTime: 0s,
  routerID: 10.0.0.3, password: x, bfdProfile: fast, ebgpMultiHop: true,
  nodeSelectors: [{matchLabels: {rack: a}, matchExpressions: [{key: zone, operator: In, values: [w, x]}]}, {}]}
`, v2, `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, labels: {a: b}, annotations: {c: d}}
spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, sourceAddress: 10.0.0.2, peerPort: 1790, holdTime: 1m30s, keepaliveTime: 0s,
  routerID: 10.0.0.3, password: x, bfdProfile: fast, ebgpMultiHop: true,
  nodeSelectors: [{matchLabels: {rack: a}, matchExpressions: [{key: zone, operator: In, values: [w, x]}]}, {}]}
`, ""},
		{"a value without meaning is kept aside", `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, nodeSelectors: [{matchExpressions: [{key: zone, operator: Exists, values: [any]}]}]}
`, v2, `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata:
  name: tor
  annotations:
    heraldlb.io/v1beta1-node-selectors: '[{"matchExpressions":[{"key":"zone","operator":"Exists","values":["any"]}]}]'
spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, nodeSelectors: [{matchExpressions: [{key: zone, operator: Exists}]}]}
`, ""},
		{"what v1beta1 cannot hold goes into an annotation", `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 1, dynamicASN: external, interface: eth0, connectTime: 5s, vrf: red, nodeSelectors: [{matchExpressions: [{key: zone, operator: DoesNotExist}]}]}
`, v1, `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata:
  name: tor
  annotations:
    heraldlb.io/v1beta2-rest: '{"myASN":0,"dynamicASN":"external","interface":"eth0","connectTime":"5s","vrf":"red"}'
spec: {myASN: 1, peerASN: 0, peerAddress: "", nodeSelectors: [{matchExpressions: [{key: zone, operator: DoesNotExist, values: [""]}]}]}
`, ""},
		{"and is taken back", `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata:
  name: tor
  annotations:
    heraldlb.io/v1beta2-rest: '{"myASN":0,"dynamicASN":"external","interface":"eth0","connectTime":"5s","vrf":"red"}'
spec: {myASN: 7, peerASN: 0, peerAddress: ""}
`, v2, `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 7, dynamicASN: external, interface: eth0, connectTime: 5s, vrf: red}
`, ""},
		{"unless somebody wrote the field that excludes it", `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata:
  name: tor
  annotations:
    heraldlb.io/v1beta2-rest: '{"myASN":0,"dynamicASN":"external","interface":"eth0","passwordSecret":{"name":"s"},"vrf":"red"}'
spec: {myASN: 7, peerASN: 8, peerAddress: 10.0.0.1, password: new}
`, v2, `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 7, peerASN: 8, peerAddress: 10.0.0.1, password: new, vrf: red}
`, ""},
		{"dynamic neighbours go into the annotation", `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 1, peerASN: 2, peerPrefix: 10.0.0.0/24, passiveMode: true, ttlSecurity: true}
`, v1, `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata:
  name: tor
  annotations:
    heraldlb.io/v1beta2-rest: '{"myASN":0,"peerPrefix":"10.0.0.0/24","ttlSecurity":true,"passiveMode":true}'
spec: {myASN: 1, peerASN: 2, peerAddress: ""}
`, ""},
		{"and give way to what excludes them", `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata:
  name: tor
  annotations:
    heraldlb.io/v1beta2-rest: '{"myASN":0,"peerPrefix":"10.0.0.0/24","ttlSecurity":true,"passiveMode":true}'
spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, ebgpMultiHop: true}
`, v2, `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, ebgpMultiHop: true, passiveMode: true}
`, ""},
		{"a spoiled annotation says nothing", `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: tor, annotations: {heraldlb.io/v1beta2-rest: "{"}}
spec: {myASN: 7, peerASN: 8, peerAddress: 10.0.0.1}
`, v2, `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 7, peerASN: 8, peerAddress: 10.0.0.1}
`, ""},
		{"the same version is left alone", "{apiVersion: metallb.io/v1beta1, kind: BGPPeer, spec: {unknown: 1}}", v1,
			"{apiVersion: metallb.io/v1beta1, kind: BGPPeer, spec: {unknown: 1}}", ""},
		{"another kind", "{apiVersion: metallb.io/v1beta1, kind: Community}", v2, "",
			`convert object 0: cannot convert kind "Community": expected BGPPeer, the only kind with two versions`},
		{"an unknown version", "{apiVersion: metallb.io/v1beta1, kind: BGPPeer}", "metallb.io/v1", "",
			`convert object 0: cannot convert BGPPeer from "metallb.io/v1beta1" to "metallb.io/v1": expected metallb.io/v1beta1 and metallb.io/v1beta2`},
		{"a field of the wrong type", "{apiVersion: metallb.io/v1beta1, kind: BGPPeer, spec: {myASN: many}}", v2, "",
			"convert object 0: read the BGPPeer: json: cannot unmarshal string into Go struct field BGPPeerSpec.spec.myASN of type uint32"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, failure := review(t, tc.object, tc.desired)
			if failure != tc.failure {
				t.Fatalf("failure %q, want %q", failure, tc.failure)
			}
			if diff := cmp.Diff(fields(t, tc.want), fields(t, got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func fields(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReviewWithoutRequest(t *testing.T) {
	out := conversion.Review(&apiextensionsv1.ConversionReview{})
	if out.Response == nil || !strings.Contains(out.Response.Result.Message, "no request") {
		t.Errorf("answer %+v", out.Response)
	}
}

func drawDuration(t *rapid.T, label string) *metav1.Duration {
	return rapid.SampledFrom([]*metav1.Duration{nil, {}, {Duration: 3 * time.Second}, {Duration: 1500 * time.Millisecond}}).Draw(t, label)
}

var words = []string{"", "a", "b"}

func drawAnnotations(t *rapid.T) map[string]string {
	return rapid.SampledFrom([]map[string]string{nil, {"x": "y"}}).Draw(t, "annotations")
}

// Down and up again gives the same object, valid or not, and so does every
// further round.
func TestV1beta2SurvivesV1beta1(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := func(label string) string { return rapid.SampledFrom(words).Draw(t, label) }
		yes := func(label string) bool { return rapid.Bool().Draw(t, label) }
		number := func(label string) uint32 { return rapid.Uint32Range(0, 2).Draw(t, label) }
		in := &v1beta2.BGPPeer{TypeMeta: metav1.TypeMeta{APIVersion: "metallb.io/v1beta2", Kind: "BGPPeer"}}
		in.Annotations = drawAnnotations(t)
		in.Spec = v1beta2.BGPPeerSpec{
			MyASN: number("my"), ASN: number("asn"), LocalASN: number("local"), Address: word("address"), Interface: word("interface"),
			DynamicASN: v1beta2.DynamicASNMode(word("dynamic")), SrcAddress: word("source"), Port: uint16(number("port")),
			HoldTime: drawDuration(t, "hold"), KeepaliveTime: drawDuration(t, "keepalive"), ConnectTime: drawDuration(t, "connect"),
			RouterID: word("id"), Password: word("password"),
			PasswordSecret: v1beta2.SecretReference{Name: word("secret"), Namespace: word("namespace")},
			BFDProfile:     word("bfd"), EnableGracefulRestart: yes("graceful"), EBGPMultiHop: yes("hops"), VRFName: word("vrf"),
			DisableMP: yes("mp"), DualStackAddressFamily: yes("dual"),
			TTLSecurity: yes("ttl"), PassiveMode: yes("passive"), Prefix: word("prefix"),
		}
		for range rapid.IntRange(0, 2).Draw(t, "selectors") {
			s := v1beta1.LabelSelector{MatchLabels: rapid.SampledFrom([]map[string]string{nil, {"a": "b"}}).Draw(t, "labels")}
			switch op := rapid.SampledFrom([]string{"", "In", "Exists", "DoesNotExist"}).Draw(t, "operator"); op {
			case "":
			case "In":
				s.MatchExpressions = []v1beta1.LabelSelectorRequirement{{Key: "k", Operator: op, Values: []string{"v"}}}
			default:
				s.MatchExpressions = []v1beta1.LabelSelectorRequirement{{Key: "k", Operator: op}}
			}
			in.Spec.NodeSelectors = append(in.Spec.NodeSelectors, s)
		}
		down := overTheWire(t, conversion.ToV1beta1(in))
		up := overTheWire(t, conversion.ToV1beta2(down))
		if diff := cmp.Diff(in, up); diff != "" {
			t.Fatalf("lost on the way (-before +after):\n%s", diff)
		}
	})
}

// Every field of v1beta2 survives, also one that only tomorrow's has.
func TestEveryFieldOfV1beta2Survives(t *testing.T) {
	kind := reflect.TypeFor[v1beta2.BGPPeerSpec]()
	for i := range kind.NumField() {
		in := &v1beta2.BGPPeer{TypeMeta: metav1.TypeMeta{APIVersion: "metallb.io/v1beta2", Kind: "BGPPeer"}}
		switch field := reflect.ValueOf(&in.Spec).Elem().Field(i); field.Kind() {
		case reflect.Bool:
			field.SetBool(true)
		case reflect.String:
			field.SetString("x")
		case reflect.Uint16, reflect.Uint32:
			field.SetUint(7)
		case reflect.Pointer:
			field.Set(reflect.ValueOf(&metav1.Duration{Duration: time.Second}))
		case reflect.Slice:
			field.Set(reflect.ValueOf([]v1beta1.LabelSelector{{MatchLabels: map[string]string{"a": "b"}}}))
		case reflect.Struct:
			field.Set(reflect.ValueOf(v1beta2.SecretReference{Name: "x"}))
		default:
			t.Fatalf("this test does not know how to change %s: teach it", kind.Field(i).Name)
		}
		out := conversion.ToV1beta2(conversion.ToV1beta1(in))
		if diff := cmp.Diff(in, out); diff != "" {
			t.Errorf("%s is lost (-before +after):\n%s", kind.Field(i).Name, diff)
		}
	}
}

// Up and down again gives what was written in v1beta1.
func TestV1beta1SurvivesStorage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := func(label string) string { return rapid.SampledFrom(words).Draw(t, label) }
		in := &v1beta1.BGPPeer{TypeMeta: metav1.TypeMeta{APIVersion: "metallb.io/v1beta1", Kind: "BGPPeer"}}
		in.Annotations = drawAnnotations(t)
		in.Spec = v1beta1.BGPPeerSpec{
			MyASN: 1, ASN: 2, Address: word("address"), SrcAddress: word("source"),
			HoldTime: drawDuration(t, "hold"), KeepaliveTime: drawDuration(t, "keepalive"), RouterID: word("id"),
			Password: word("password"), BFDProfile: word("bfd"), EBGPMultiHop: rapid.Bool().Draw(t, "hops"),
		}
		for range rapid.IntRange(0, 2).Draw(t, "selectors") {
			in.Spec.NodeSelectors = append(in.Spec.NodeSelectors, v1beta1.NodeSelector{
				MatchExpressions: []v1beta1.MatchExpression{{
					Key:      "k",
					Operator: rapid.SampledFrom([]string{"In", "Exists", "DoesNotExist"}).Draw(t, "operator"),
					Values:   rapid.SampledFrom([][]string{{""}, {"x"}, {"x", "y"}}).Draw(t, "values"),
				}}})
		}
		up := overTheWire(t, conversion.ToV1beta2(in))
		down := overTheWire(t, conversion.ToV1beta1(up))
		if diff := cmp.Diff(in, down, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("lost on the way (-before +after):\n%s", diff)
		}
	})
}

// overTheWire is what the API server does between two conversions.
func overTheWire[T any](t *rapid.T, in *T) *T {
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := new(T)
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzReview feeds objects that no API server would store.
func FuzzReview(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"metallb.io/v1beta1","kind":"BGPPeer","spec":{"myASN":1,"nodeSelectors":[{"matchExpressions":[{"operator":"Exists","values":[]}]}]}}`), true)
	f.Add([]byte(`{"apiVersion":"metallb.io/v1beta2","kind":"BGPPeer","metadata":{"annotations":{"heraldlb.io/v1beta1-node-selectors":"[{}]"}},"spec":{"nodeSelectors":[{}]}}`), false)
	f.Add([]byte(`{"apiVersion":"metallb.io/v1beta1","kind":"BGPPeer","metadata":{"annotations":{"heraldlb.io/v1beta2-rest":"[]"}}}`), true)
	f.Fuzz(func(t *testing.T, object []byte, up bool) {
		desired := "metallb.io/v1beta1"
		if up {
			desired = "metallb.io/v1beta2"
		}
		out := conversion.Review(&apiextensionsv1.ConversionReview{Request: &apiextensionsv1.ConversionRequest{
			DesiredAPIVersion: desired, Objects: []runtime.RawExtension{{Raw: object}}}})
		if out.Response.Result.Status == metav1.StatusSuccess {
			var meta metav1.TypeMeta
			if json.Unmarshal(out.Response.ConvertedObjects[0].Raw, &meta) != nil || meta.APIVersion != desired {
				t.Fatalf("converted to %s, want %s", meta.APIVersion, desired)
			}
		} else if out.Response.Result.Message == "" {
			t.Fatal("refused without a reason")
		}
	})
}

package service_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

func parse(t testing.TB, text string) *service.Service {
	t.Helper()
	var svc corev1.Service
	if err := yaml.UnmarshalStrict([]byte(text), &svc); err != nil {
		t.Fatal(err)
	}
	return service.Parse(&svc)
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestParseReadsEverything(t *testing.T) {
	got := parse(t, `
metadata:
  name: web
  namespace: shop
  uid: u-1
  creationTimestamp: "2026-01-02T03:04:05Z"
  labels: {app: web}
  annotations:
    metallb.io/allow-shared-ip: key
    metallb.io/address-pool: gold
    metallb.io/loadBalancerIPs: "10.0.0.7, 2001:db8::7"
    metallb.io/ip-allocated-from-pool: silver
spec:
  type: LoadBalancer
  loadBalancerClass: example.com/herald
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::1"]
  ipFamilies: [IPv6, IPv4]
  ipFamilyPolicy: RequireDualStack
  externalTrafficPolicy: Local
  selector: {b: "2", a: "1"}
  ports:
  - {port: 80}
  - {port: 53, protocol: UDP}
  - {port: 99, protocol: SCTP}
status:
  loadBalancer:
    ingress: [{ip: 10.0.0.8}, {ip: "2001:db8::8"}]
`)
	want := &service.Service{
		Key:           service.Key{Namespace: "shop", Name: "web"},
		UID:           "u-1",
		Created:       time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Labels:        map[string]string{"app": "web"},
		LoadBalancer:  true,
		Class:         "example.com/herald",
		ClusterIPs:    addrs("10.96.0.1", "fd00::1"),
		Policy:        service.RequireDualStack,
		PreferIPv6:    true,
		Local:         true,
		BackendKey:    "a=1,b=2",
		SharingKey:    "key",
		AllowsSharing: true,
		Ports:         []service.Port{{Protocol: "TCP", Port: 80}, {Protocol: "UDP", Port: 53}, {Protocol: "SCTP", Port: 99}},
		WantAddresses: addrs("10.0.0.7", "2001:db8::7"),
		WantPool:      "gold",
		Addresses:     addrs("10.0.0.8", "2001:db8::8"),
		Pool:          "silver",
	}
	if diff := cmp.Diff(want, got, sameAddr, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Key.String() != "shop/web" {
		t.Errorf("Key = %s", got.Key)
	}
}

func TestAnnotationPrefixes(t *testing.T) {
	for _, tc := range []struct {
		name, annotations string
		check             func(*service.Service) any
		want              any
	}{
		{"the deprecated prefix is read", `{metallb.universe.tf/address-pool: old}`,
			func(s *service.Service) any { return s.WantPool }, "old"},
		{"the current prefix wins", `{metallb.universe.tf/address-pool: old, metallb.io/address-pool: new}`,
			func(s *service.Service) any { return s.WantPool }, "new"},
		{"even when it is empty", `{metallb.universe.tf/address-pool: old, metallb.io/address-pool: ""}`,
			func(s *service.Service) any { return s.WantPool }, ""},
		{"an empty request hides the deprecated one", `{metallb.universe.tf/loadBalancerIPs: 10.0.0.1, metallb.io/loadBalancerIPs: ""}`,
			func(s *service.Service) any { return len(s.WantAddresses) + len(s.Problems) }, 0},
		{"addresses by the deprecated prefix", `{metallb.universe.tf/loadBalancerIPs: 10.0.0.1}`,
			func(s *service.Service) any { return s.WantAddresses[0].String() }, "10.0.0.1"},
		{"a sharing key by the deprecated prefix", `{metallb.universe.tf/allow-shared-ip: key}`,
			func(s *service.Service) any { return s.SharingKey }, "key"},
		{"an empty sharing key allows nothing", `{metallb.io/allow-shared-ip: ""}`,
			func(s *service.Service) any { return s.SharingKey }, ""},
		{"but the key is present", `{metallb.io/allow-shared-ip: ""}`,
			func(s *service.Service) any { return s.AllowsSharing }, true},
		{"no sharing key", `{}`,
			func(s *service.Service) any { return s.AllowsSharing }, false},
		{"deprecated keys are named, sorted", `{metallb.universe.tf/b: x, metallb.universe.tf/a: x, metallb.io/c: x}`,
			func(s *service.Service) any { return s.DeprecatedAnnotations }, []string{"metallb.universe.tf/a", "metallb.universe.tf/b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := parse(t, "metadata: {annotations: "+tc.annotations+"}")
			if diff := cmp.Diff(tc.want, tc.check(s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A request that cannot be understood asks for nothing and says why.
func TestRequestsThatCannotBeUnderstood(t *testing.T) {
	for _, tc := range []struct{ name, service, field, message string }{
		{"a word", `{metadata: {annotations: {metallb.io/loadBalancerIPs: soon}}}`,
			"metallb.io/loadBalancerIPs",
			`metallb.io/loadBalancerIPs: "soon" is not an IP address: expected one address, or one of each family joined by a comma`},
		{"a prefix", `{metadata: {annotations: {metallb.io/loadBalancerIPs: 10.0.0.0/24}}}`,
			"metallb.io/loadBalancerIPs",
			`metallb.io/loadBalancerIPs: "10.0.0.0/24" is not an IP address: expected one address, or one of each family joined by a comma`},
		{"a comma too much", `{metadata: {annotations: {metallb.io/loadBalancerIPs: "10.0.0.1,"}}}`,
			"metallb.io/loadBalancerIPs",
			`metallb.io/loadBalancerIPs: "" is not an IP address: expected one address, or one of each family joined by a comma`},
		{"a zone", `{metadata: {annotations: {metallb.io/loadBalancerIPs: "fe80::1%eth0"}}}`,
			"metallb.io/loadBalancerIPs",
			`metallb.io/loadBalancerIPs: "fe80::1%eth0" is not an IP address: expected one address, or one of each family joined by a comma`},
		{"two of one family, by the deprecated prefix", `{metadata: {annotations: {metallb.universe.tf/loadBalancerIPs: "10.0.0.1,10.0.0.2"}}}`,
			"metallb.universe.tf/loadBalancerIPs",
			`metallb.universe.tf/loadBalancerIPs asks for 10.0.0.1 and 10.0.0.2, which are of the same family: expected at most one address of each family`},
		{"three addresses", `{metadata: {annotations: {metallb.io/loadBalancerIPs: "10.0.0.1,::1,::2"}}}`,
			"metallb.io/loadBalancerIPs",
			`metallb.io/loadBalancerIPs asks for ::1 and ::2, which are of the same family: expected at most one address of each family`},
		{"the spec field", `{spec: {loadBalancerIP: nope}}`,
			"spec.loadBalancerIP",
			`spec.loadBalancerIP: "nope" is not an IP address: expected one address, or one of each family joined by a comma`},
		{"annotation and spec field", `{metadata: {annotations: {metallb.io/loadBalancerIPs: 10.0.0.1}}, spec: {loadBalancerIP: 10.0.0.1}}`,
			"metallb.io/loadBalancerIPs",
			`the Service asks for addresses both by annotation metallb.io/loadBalancerIPs ("10.0.0.1") and by spec.loadBalancerIP ("10.0.0.1"): expected one of them`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := parse(t, tc.service)
			want := []service.Problem{{Field: tc.field, Reason: reason.InvalidRequest, Message: tc.message}}
			if diff := cmp.Diff(want, s.Problems); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if s.WantAddresses != nil {
				t.Errorf("WantAddresses = %v, want none", s.WantAddresses)
			}
		})
	}
}

func TestRequestsOfAddresses(t *testing.T) {
	for _, tc := range []struct {
		name, service string
		want          []netip.Addr
	}{
		{"by the spec field", `{spec: {loadBalancerIP: 10.0.0.1}}`, addrs("10.0.0.1")},
		{"the order is kept", `{metadata: {annotations: {metallb.io/loadBalancerIPs: "2001:db8::1 ,10.0.0.1"}}}`, addrs("2001:db8::1", "10.0.0.1")},
		{"an IPv4 address in IPv6 clothes", `{metadata: {annotations: {metallb.io/loadBalancerIPs: "::ffff:10.0.0.1"}}}`, addrs("10.0.0.1")},
		{"none", `{}`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := parse(t, tc.service)
			if diff := cmp.Diff(tc.want, s.WantAddresses, sameAddr); diff != "" || len(s.Problems) > 0 {
				t.Errorf("problems %v, (-want +got):\n%s", s.Problems, diff)
			}
		})
	}
}

func TestParseEdges(t *testing.T) {
	for _, tc := range []struct {
		name, service string
		check         func(*service.Service) any
		want          any
	}{
		{"a headless Service has no cluster IP", `{spec: {clusterIP: None, clusterIPs: [None]}}`,
			func(s *service.Service) any { return len(s.ClusterIPs) }, 0},
		{"clusterIP alone", `{spec: {clusterIP: 10.96.0.1}}`,
			func(s *service.Service) any { return len(s.ClusterIPs) }, 1},
		{"a hostname in the status", `{status: {loadBalancer: {ingress: [{hostname: x.example}, {ip: 10.0.0.1}]}}}`,
			func(s *service.Service) any { return []any{s.BadIngress, len(s.Addresses)} }, []any{true, 1}},
		{"garbage in the status", `{status: {loadBalancer: {ingress: [{ip: x}]}}}`,
			func(s *service.Service) any { return []any{s.BadIngress, len(s.Addresses)} }, []any{true, 0}},
		{"policy Cluster has no backend key", `{spec: {externalTrafficPolicy: Cluster, selector: {a: b}}}`,
			func(s *service.Service) any { return s.BackendKey }, ""},
		{"policy Local without selector", `{spec: {externalTrafficPolicy: Local}}`,
			func(s *service.Service) any { return []any{s.Local, s.BackendKey} }, []any{true, ""}},
		{"no policy is single stack", `{}`,
			func(s *service.Service) any { return s.Policy }, service.SingleStack},
		{"prefer dual stack", `{spec: {ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv6]}}`,
			func(s *service.Service) any { return []any{s.Policy, s.PreferIPv6} }, []any{service.PreferDualStack, false}},
		{"an unknown policy is single stack", `{spec: {ipFamilyPolicy: Sometimes}}`,
			func(s *service.Service) any { return s.Policy }, service.SingleStack},
		{"ports out of range are no ports", `{spec: {ports: [{port: 0}, {port: 70000}, {port: 1}]}}`,
			func(s *service.Service) any { return s.Ports }, []service.Port{{Protocol: "TCP", Port: 1}}},
		{"a ClusterIP Service", `{spec: {type: ClusterIP}}`,
			func(s *service.Service) any { return s.LoadBalancer }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.check(parse(t, tc.service))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzParse feeds everything of a Service that users or other programs write
// as free text.
func FuzzParse(f *testing.F) {
	f.Add("10.0.0.1,2001:db8::1", "10.0.0.1", "pool", "key", "10.96.0.1", "10.0.0.1", int32(80))
	f.Add(",,,", "", "", "", "None", "host", int32(-1))
	f.Add("::ffff:10.0.0.1,10.0.0.1", "%", "\x00", "\xff", "", "fe80::1%eth0", int32(65536))
	f.Fuzz(func(t *testing.T, want, lbIP, pool, key, clusterIP, ingress string, port int32) {
		svc := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
				service.AnnotationAddresses: want, service.AnnotationPool: pool,
				service.AnnotationSharingKey: key, "metallb.universe.tf/" + key: pool,
			}},
			Spec: corev1.ServiceSpec{
				LoadBalancerIP: lbIP, ClusterIP: clusterIP, Selector: map[string]string{key: pool},
				ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
				Ports:                 []corev1.ServicePort{{Port: port}},
			},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
				Ingress: []corev1.LoadBalancerIngress{{IP: ingress}}}},
		}
		s := service.Parse(svc)
		if len(s.WantAddresses) > 2 || (len(s.WantAddresses) == 2 && s.WantAddresses[0].Is4() == s.WantAddresses[1].Is4()) {
			t.Fatalf("WantAddresses = %v", s.WantAddresses)
		}
		if len(s.Problems) > 0 && s.WantAddresses != nil {
			t.Fatalf("a request both understood (%v) and not (%v)", s.WantAddresses, s.Problems)
		}
		if asked := want != "" || lbIP != ""; asked != (len(s.Problems) > 0 || s.WantAddresses != nil) {
			t.Fatalf("a request that is neither served nor refused: %q, %q", want, lbIP)
		}
		if s.BadIngress != (len(s.Addresses) == 0) {
			t.Fatalf("ingress %q: bad %t, addresses %v", ingress, s.BadIngress, s.Addresses)
		}
		if diff := cmp.Diff(s, service.Parse(svc), sameAddr); diff != "" {
			t.Fatalf("parsing twice differs:\n%s", diff)
		}
	})
}

//go:build lab

package assignment

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

const requestKey = "metallb.io/loadBalancerIPs"

// A Service whose request makes no sense, or cannot be met, says so in its
// condition and in an event, in words that name what is wrong. Sound Services
// beside it have, keep and get their addresses.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	pool := s.ours("p", s.range4(1, 9), s.range6(1, 9))
	other := s.ours("q", s.range4(20, 29))
	s.served("holder", s.v4(1), harness.Ports("80/TCP:8080"))
	s.served("sharer", s.v4(2), harness.Sharing("k"), harness.At(addr(s.v4(2))))
	for _, tt := range []struct {
		name, reason string
		words        []string
		options      []harness.ServiceOption
	}{
		{"word", "InvalidRequest", []string{requestKey, `"please" is not an IP address`}, opts(harness.Annotate(requestKey, "please"))},
		{"octet", "InvalidRequest", []string{`"10.7.0.300"`}, opts(harness.Annotate(requestKey, "10.7.0.300"))},
		{"prefix", "InvalidRequest", []string{s.one4(5), "is not an IP address"}, opts(harness.Annotate(requestKey, s.one4(5)))},
		{"comma", "InvalidRequest", []string{`"" is not an IP address`}, opts(harness.Annotate(requestKey, s.v4(5)+","))},
		{"zone", "InvalidRequest", []string{`"fe80::1%eth0"`}, opts(harness.Annotate(requestKey, "fe80::1%eth0"))},
		{"null", "InvalidRequest", []string{"is not an IP address"}, opts(harness.Annotate(requestKey, "\x00\u202e🙂"))},
		{"long", "InvalidRequest", []string{"is not an IP address"}, opts(harness.Annotate(requestKey, strings.Repeat("1.", 3000)))},
		{"twins", "InvalidRequest", []string{s.v4(5), s.v4(6), "same family"}, opts(harness.Dual, harness.At(addr(s.v4(5)), addr(s.v4(6))))},
		{"both-ways", "InvalidRequest", []string{requestKey, "spec.loadBalancerIP", s.v4(6)},
			opts(harness.At(addr(s.v4(5))), func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = s.v4(6) })},
		{"wrong-family", "FamilyMismatch", []string{s.v6(5), "cluster IPs"}, opts(harness.V4, harness.At(addr(s.v6(5))))},
		{"one-of-two", "FamilyMismatch", []string{s.v4(5), "one address of each"}, opts(harness.Dual, harness.At(addr(s.v4(5))))},
		{"old-field", "AddressNotInPool", []string{"203.0.113.7"}, opts(func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = "203.0.113.7" })},
		{"no-such-address", "AddressNotInPool", []string{"203.0.113.7", "in no pool"}, opts(harness.Annotate(requestKey, " 203.0.113.7 "))},
		{"no-such-pool", "PoolUnknown", []string{`"nowhere"`, "does not exist"}, opts(harness.From("nowhere"))},
		{"garbage-pool", "PoolUnknown", []string{"does not exist"}, opts(harness.From("../../etc\n🙂"))},
		{"taken", "AddressInUse", []string{s.v4(1), s.Namespace + "/holder"}, opts(harness.At(addr(s.v4(1))))},
		{"not-shared", "AddressInUse", []string{s.Namespace + "/holder", "carries no sharing key"}, opts(harness.Sharing("k"), harness.At(addr(s.v4(1))))},
		{"other-key", "SharingConflict", []string{s.Namespace + "/sharer", `"k"`, `"l"`}, opts(harness.Sharing("l"), harness.At(addr(s.v4(2))))},
		{"same-port", "PortConflict", []string{"80/TCP", s.Namespace + "/sharer"}, opts(harness.Sharing("k"), harness.At(addr(s.v4(2))))},
		{"other-backend", "SharingConflict", []string{s.Namespace + "/sharer", "externalTrafficPolicy"},
			opts(harness.Sharing("k"), harness.Local, harness.Ports("82/TCP:8080"), harness.At(addr(s.v4(2))))},
		{"pool-and-address", "PoolMismatch", []string{pool, other, s.v4(21)}, opts(harness.From(pool), harness.At(addr(s.v4(21))))},
		{"two-pools", "PoolMismatch", []string{"not in one pool"}, opts(harness.Dual, harness.At(addr(s.v4(21)), addr(s.v6(5))))},
		{"no-family", "FamilyNotInPool", []string{other, "IPv6"}, opts(harness.V6, harness.From(other))},
	} {
		s.Service(tt.name, tt.options...)
		c := s.waits(tt.name, tt.reason)
		for _, words := range tt.words {
			if !strings.Contains(c.Message, words) {
				t.Errorf("%s: the condition does not say %q: %s", tt.name, words, c.Message)
			}
		}
		s.toldOf(tt.name, "AllocationFailed", tt.reason)
	}
	// They took nothing: the lowest free address is the next.
	s.served("sound", s.v4(3))
	s.has("holder", s.v4(1))
	s.has("sharer", s.v4(2))
	s.poolSays(pool, 3, 6, 0, 9)
	// And one that is corrected is served.
	s.UpdateService("word", harness.Annotate(requestKey, s.v4(7)))
	s.has("word", s.v4(7))
	s.UpdateService("no-such-pool", harness.From(other))
	s.has("no-such-pool", s.v4(20))
}

func opts(list ...harness.ServiceOption) []harness.ServiceOption { return list }

// A Service that has an address and then asks for nonsense keeps what it has.
func TestBadRequestOfAHolder(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("p", s.range4(1, 9))
	s.served("web", s.v4(1))
	h := s.history()
	s.UpdateService("web", harness.Annotate(requestKey, "one of the good ones"))
	c := s.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "InvalidRequest")
	if !strings.Contains(c.Message, "one of the good ones") {
		t.Errorf("the condition does not quote the request: %s", c.Message)
	}
	s.toldOf("web", "LoadBalancerFailed", "one of the good ones")
	s.UpdateService("web", harness.Annotate(requestKey, ""))
	s.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "Assigned")
	h.was(s, "web", s.v4(1))
}

// Of two Services that ask for one address the first has it; the other says who,
// and gets it when it can.
func TestTwoServicesAskForOneAddress(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("p", s.range4(1, 9))
	s.served("one", s.v4(5), harness.At(addr(s.v4(5))))
	s.Service("two", harness.At(addr(s.v4(5))))
	if c := s.waits("two", "AddressInUse"); !strings.Contains(c.Message, s.Namespace+"/one") {
		t.Errorf("the condition does not name the holder: %s", c.Message)
	}
	h := s.history()
	s.UpdateService("one", harness.At(addr(s.v4(6))))
	s.has("one", s.v4(6))
	s.has("two", s.v4(5))
	h.was(s, "two", "", s.v4(5))
}

// Two Services that want each other's address get it.
func TestTwoServicesSwapAddresses(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("p", s.range4(1, 9))
	s.served("one", s.v4(5), harness.At(addr(s.v4(5))))
	s.served("two", s.v4(6), harness.At(addr(s.v4(6))))
	s.UpdateService("one", harness.At(addr(s.v4(6))))
	s.UpdateService("two", harness.At(addr(s.v4(5))))
	s.has("one", s.v4(6))
	s.has("two", s.v4(5))
}

// Annotations of the old prefix work, and say that they are old; where both are
// there the new one counts, also an empty one.
func TestDeprecatedAnnotations(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	pool := s.ours("p", s.range4(1, 9))
	s.served("old", s.v4(5), harness.Annotate("metallb.universe.tf/loadBalancerIPs", s.v4(5)),
		harness.Annotate("metallb.universe.tf/address-pool", pool))
	s.toldOf("old", "deprecatedAnnotation", "metallb.universe.tf/loadBalancerIPs")
	s.toldOf("old", "deprecatedAnnotation", "metallb.universe.tf/address-pool")
	s.served("both", s.v4(1), harness.Annotate("metallb.universe.tf/loadBalancerIPs", "garbage"), harness.Annotate(requestKey, ""))
}

// What no Service can be, the API server refuses.
func TestImpossibleServicesAreRefused(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	for _, tt := range []struct{ name, spec, words string }{
		{"an unknown traffic policy", "type: LoadBalancer, externalTrafficPolicy: Nearby", `"Nearby"`},
		{"an unknown family policy", "type: LoadBalancer, ipFamilyPolicy: AnyStack", `"AnyStack"`},
		{"a headless load balancer", "type: LoadBalancer, clusterIP: None", "may not be set to 'None' for LoadBalancer services"},
		{"a class that is none", "type: LoadBalancer, loadBalancerClass: 'not a class'", "spec.loadBalancerClass"},
	} {
		err := s.TryApply("apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {" + tt.spec + ", ports: [{port: 80}]}\n")
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want a refusal with %q", tt.name, err, tt.words)
		}
	}
}

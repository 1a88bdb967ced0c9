//go:build lab

package apitest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestServiceGetsAnAddressAndSaysSo(t *testing.T) {
	clean(t)
	startController(t).ready()
	makePool(t, "main", "10.7.0.1-10.7.0.4", "fd07::/126")
	makeService(t, "web", dualStack, annotated("metallb.universe.tf/address-pool", "main"))
	svc := has(t, "web", "10.7.0.1,fd07::")
	if mode := svc.Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeVIP {
		t.Errorf("ipMode %v, want VIP", mode)
	}
	if pool := svc.Annotations["metallb.io/ip-allocated-from-pool"]; pool != "main" {
		t.Errorf("the pool's annotation is %q", pool)
	}
	c := assigned(svc)
	if c == nil || c.Status != metav1.ConditionTrue || c.Reason != "Assigned" || c.Message != `10.7.0.1, fd07:: from pool "main"` || c.LastTransitionTime.IsZero() {
		t.Errorf("condition %+v", c)
	}
	eventually(t, "events", func() error {
		for _, reason := range []string{"IPAllocated", "deprecatedAnnotation"} {
			if !hasEvent(t, svc, reason) {
				return fmt.Errorf("no event %s", reason)
			}
		}
		return nil
	})
	eventually(t, "the pool's status", func() error {
		pool, err := world.dynamic.Resource(pools).Namespace(system).Get(t.Context(), "main", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got := fmt.Sprint(pool.Object["status"])
		if want := "map[assignedIPv4:1 assignedIPv6:1 availableIPv4:3 availableIPv6:3]"; got != want {
			return fmt.Errorf("%s, want %s", got, want)
		}
		return nil
	})
	// Nothing more is written while nothing changes.
	never(t, 2*time.Second, "the Service rests", func() error {
		if now := getService(t, "web"); now.ResourceVersion != svc.ResourceVersion {
			return fmt.Errorf("it was written again: %+v", now)
		}
		return nil
	})
}

func hasEvent(t *testing.T, svc *corev1.Service, reason string) bool {
	t.Helper()
	list, err := world.client.EventsV1().Events(svc.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=" + reason})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		if e.Regarding.UID == svc.UID && e.ReportingController == "metallb-controller" {
			return true
		}
	}
	return false
}

func TestFreedAddressGoesToTheOldestWaiter(t *testing.T) {
	clean(t)
	startController(t).ready()
	makePool(t, "main", "10.7.0.1/32")
	makeService(t, "holder")
	has(t, "holder", "10.7.0.1")
	makeService(t, "second")
	if c := says(t, "second", "PoolExhausted"); c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, `pool "main"`) {
		t.Errorf("condition %+v", c)
	}
	makeService(t, "third")
	says(t, "third", "PoolExhausted")
	patchService(t, "holder", `{"spec":{"type":"ClusterIP"}}`)
	has(t, "second", "10.7.0.1")
	svc := has(t, "holder", "")
	eventually(t, "nothing of the assignment is left on the holder", func() error {
		svc = getService(t, "holder")
		if _, ok := svc.Annotations["metallb.io/ip-allocated-from-pool"]; ok || assigned(svc) != nil {
			return fmt.Errorf("%v %v", svc.Annotations, svc.Status.Conditions)
		}
		return nil
	})
	if err := world.client.CoreV1().Services(namespace).Delete(t.Context(), "second", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	has(t, "third", "10.7.0.1")
}

func TestAssignmentsSurviveRestartsWhileOthersWait(t *testing.T) {
	clean(t)
	makePool(t, "main", "10.7.0.1-10.7.0.2")
	p := startController(t)
	p.ready()
	makeService(t, "a")
	has(t, "a", "10.7.0.1")
	makeService(t, "b")
	has(t, "b", "10.7.0.2")
	for _, name := range []string{"c", "d"} {
		makeService(t, name)
		says(t, name, "PoolExhausted")
	}
	for range 5 {
		p.stop(syscall.SIGTERM)
		p = startController(t)
		p.ready()
		p.leads()
		for name, want := range map[string]string{"a": "10.7.0.1", "b": "10.7.0.2", "c": "", "d": ""} {
			if got := addresses(getService(t, name)); got != want {
				t.Fatalf("after a restart %s has %q, want %q", name, got, want)
			}
		}
	}
}

func TestPoolThatIsMissingAtTheStartTakesNothingAway(t *testing.T) {
	clean(t)
	makePool(t, "main", "10.7.0.1-10.7.0.2")
	p := startController(t)
	p.ready()
	makeService(t, "web")
	has(t, "web", "10.7.0.1")
	p.stop(syscall.SIGTERM)
	deletePool(t, "main")

	p = startController(t)
	p.ready()
	p.leads()
	says(t, "web", "PoolMissing")
	if got := addresses(getService(t, "web")); got != "10.7.0.1" {
		t.Fatalf("the Service has %q", got)
	}
	makePool(t, "main", "10.7.0.0/30")
	says(t, "web", "Assigned")
	has(t, "web", "10.7.0.1")

	// The same while everybody looks is a decision.
	deletePool(t, "main")
	has(t, "web", "")
	says(t, "web", "NoPools")
}

func TestPoolThatStaysMissingEndsTheGrace(t *testing.T) {
	clean(t)
	makePool(t, "main", "10.7.0.1-10.7.0.2")
	p := startController(t)
	p.ready()
	makeService(t, "web")
	has(t, "web", "10.7.0.1")
	p.stop(syscall.SIGTERM)
	deletePool(t, "main")
	makePool(t, "other", "10.8.0.1-10.8.0.2")
	p = startController(t)
	p.ready()
	says(t, "web", "PoolMissing")
	has(t, "web", "10.8.0.1")
}

func TestLeaderChange(t *testing.T) {
	clean(t)
	makePool(t, "main", "10.7.0.0/24")
	first := startController(t)
	first.ready()
	first.leads()
	second := startController(t)
	second.ready()
	makeService(t, "before")
	has(t, "before", "10.7.0.0")
	if second.logged("adopted the existing assignments") {
		t.Fatal("two replicas work at once")
	}
	first.stop(syscall.SIGTERM)
	second.leads()
	makeService(t, "after")
	has(t, "after", "10.7.0.1")
	has(t, "before", "10.7.0.0")

	// A leader that dies keeps its lease until that runs out.
	third := startController(t)
	third.ready()
	second.stop(syscall.SIGKILL)
	third.leads()
	makeService(t, "later")
	has(t, "later", "10.7.0.2")
}

// After the death of the only replica its lease stands for a while. The next one
// is not ready before it works, or all would look well while nobody serves.
func TestReplicaIsReadyOnceSomebodyWorks(t *testing.T) {
	clean(t)
	p := startController(t)
	p.ready()
	p.leads()
	p.stop(syscall.SIGKILL)
	p = startController(t)
	p.ready()
	if !p.logged("adopted the existing assignments") {
		t.Error("the replica is ready though nobody works")
	}
}

func TestConditionsOfOthersAreLeftAlone(t *testing.T) {
	clean(t)
	startController(t).ready()
	makeService(t, "web")
	says(t, "web", "NoPools")
	patch := `{"status":{"conditions":[{"type":"heraldlb.io/Announced","status":"True","reason":"Elected","message":"here","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`
	if _, err := world.client.CoreV1().Services(namespace).Patch(t.Context(), "web", "application/strategic-merge-patch+json", []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	makePool(t, "main", "10.7.0.1/32")
	has(t, "web", "10.7.0.1")
	svc := getService(t, "web")
	if len(svc.Status.Conditions) != 2 {
		t.Errorf("conditions %+v, want ours beside the speaker's", svc.Status.Conditions)
	}
	patchService(t, "web", `{"spec":{"type":"NodePort"}}`)
	eventually(t, "our condition goes, the other stays", func() error {
		svc = getService(t, "web")
		if assigned(svc) != nil || len(svc.Status.Conditions) != 1 {
			return fmt.Errorf("%+v", svc.Status.Conditions)
		}
		return nil
	})
}

// Many writers on one object: each write of ours that is refused is tried again
// on what is there then.
func TestConflictsEndInTheRightState(t *testing.T) {
	clean(t)
	startController(t).ready()
	makePool(t, "main", "10.7.0.0/24")
	for i := range 20 {
		makeService(t, fmt.Sprintf("web-%d", i))
	}
	for i := range 20 {
		for j := range 5 {
			patchService(t, fmt.Sprintf("web-%d", i), fmt.Sprintf(`{"metadata":{"labels":{"n":"%d"}}}`, j))
		}
	}
	seen := map[string]string{}
	for i := range 20 {
		name := fmt.Sprintf("web-%d", i)
		says(t, name, "Assigned")
		got := addresses(getService(t, name))
		if other, taken := seen[got]; taken || got == "" {
			t.Errorf("%s has %q, which %q has", name, got, other)
		}
		seen[got] = name
	}
}

// A status that a person wrote is adopted if it may be, and corrected if not.
func TestStatusThatSomebodyEdited(t *testing.T) {
	clean(t)
	startController(t).ready()
	makePool(t, "main", "10.7.0.0/24")
	makeService(t, "web")
	has(t, "web", "10.7.0.0")
	patchService(t, "web", `{"status":{"loadBalancer":{"ingress":[{"ip":"10.7.0.9"}]}}}`, "status")
	eventually(t, "the annotation and the condition follow", func() error {
		svc := getService(t, "web")
		if c := assigned(svc); addresses(svc) != "10.7.0.9" || !strings.HasPrefix(c.Message, "10.7.0.9") {
			return fmt.Errorf("%s %+v", addresses(svc), c)
		}
		return nil
	})
	patchService(t, "web", `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`, "status")
	has(t, "web", "10.7.0.9")
	patchService(t, "web", `{"status":{"loadBalancer":{"ingress":[{"hostname":"example.org"}]}}}`, "status")
	has(t, "web", "10.7.0.9")
	patchService(t, "web", `{"status":{"loadBalancer":null}}`, "status")
	has(t, "web", "10.7.0.9")
}

func TestPreferDualStackOnASingleStackServiceRests(t *testing.T) {
	clean(t)
	startController(t).ready()
	makePool(t, "main", "10.7.0.0/30", "fd07::/126")
	single := corev1.IPFamilyPolicySingleStack
	makeService(t, "web", func(svc *corev1.Service) { svc.Spec.IPFamilyPolicy = &single })
	svc := has(t, "web", "10.7.0.0")
	says(t, "web", "Assigned")
	svc = getService(t, "web")
	never(t, 2*time.Second, "the Service rests", func() error {
		if now := getService(t, "web"); now.ResourceVersion != svc.ResourceVersion {
			return fmt.Errorf("it was written again: %+v", now.Status)
		}
		return nil
	})
	// It asks for two and has two; then for one and keeps that.
	patchService(t, "web", `{"spec":{"ipFamilyPolicy":"PreferDualStack"}}`)
	has(t, "web", "10.7.0.0,fd07::")
	patchService(t, "web", `{"spec":{"ipFamilyPolicy":"SingleStack"}}`)
	has(t, "web", "10.7.0.0")
}

func TestLoadBalancerClass(t *testing.T) {
	clean(t)
	startController(t, "--lb-class=example.org/fast").ready()
	makePool(t, "main", "10.7.0.1/32")
	class := "example.org/fast"
	makeService(t, "plain")
	makeService(t, "fast", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class })
	has(t, "fast", "10.7.0.1")
	// Kubernetes drops the class together with the type; the address must come
	// free all the same.
	patchService(t, "fast", `{"spec":{"type":"ClusterIP","loadBalancerClass":null}}`)
	makeService(t, "next", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class })
	has(t, "next", "10.7.0.1")
	eventually(t, "the status is cleared", func() error {
		svc := getService(t, "fast")
		if assigned(svc) != nil || addresses(svc) != "" || len(svc.Annotations) > 0 {
			return fmt.Errorf("%+v %v", svc.Status, svc.Annotations)
		}
		return nil
	})
	if svc := getService(t, "plain"); assigned(svc) != nil || addresses(svc) != "" {
		t.Errorf("a Service of another class was touched: %+v", svc.Status)
	}
}

func TestProblemsOfTheConfigurationAreTold(t *testing.T) {
	clean(t)
	startController(t).ready()
	makePool(t, "good", "10.7.0.0/30")
	makePool(t, "overlapping", "10.7.0.2/31", "10.9.0.0/30")
	var c map[string]any
	state := func() (result, summary string, err error) {
		o, err := world.dynamic.Resource(states).Namespace(system).Get(t.Context(), "controller", metav1.GetOptions{})
		if err != nil {
			return "", "", err
		}
		result, _, _ = unstructured.NestedString(o.Object, "status", "result")
		summary, _, _ = unstructured.NestedString(o.Object, "status", "errorSummary")
		if list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions"); len(list) == 1 {
			c = list[0].(map[string]any)
		}
		return result, summary, nil
	}
	eventually(t, "the ConfigurationState names the pool and the field", func() error {
		result, summary, err := state()
		if err != nil {
			return err
		}
		if result != "Invalid" || !strings.Contains(summary, "IPAddressPool overlapping, spec.addresses[0]") {
			return fmt.Errorf("%s: %s", result, summary)
		}
		return nil
	})
	if c["type"] != "poolReconcilerValid" || c["status"] != "False" || c["reason"] != "ConfigurationError" {
		t.Errorf("condition %v", c)
	}
	eventually(t, "an event on the pool", func() error {
		list, err := world.client.EventsV1().Events(system).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=ConfigurationError"})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Regarding.Kind == "IPAddressPool" && e.Regarding.Name == "overlapping" {
				return nil
			}
		}
		return fmt.Errorf("%d events, none of them on the pool", len(list.Items))
	})
	// What is sound works on: the rest of the pool too.
	makeService(t, "web", annotated("metallb.io/address-pool", "overlapping"))
	has(t, "web", "10.9.0.0")

	deletePool(t, "overlapping")
	eventually(t, "the ConfigurationState is valid again", func() error {
		result, summary, err := state()
		if err == nil && (result != "Valid" || summary != "") {
			err = fmt.Errorf("%s: %s", result, summary)
		}
		return err
	})
	if err := world.dynamic.Resource(states).Namespace(system).Delete(t.Context(), "controller", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a deleted ConfigurationState comes back", func() error {
		result, _, err := state()
		if err == nil && result != "Valid" {
			err = fmt.Errorf("result %q", result)
		}
		return err
	})
}

func TestRefusalsAreSentences(t *testing.T) {
	clean(t)
	startController(t).ready()
	makePool(t, "main", "10.7.0.0/30")
	makeService(t, "holder")
	has(t, "holder", "10.7.0.0")
	tests := []struct {
		name, reason, words string
		change              []func(*corev1.Service)
	}{
		{"garbage", "InvalidRequest", "is not an IP address", []func(*corev1.Service){annotated("metallb.io/loadBalancerIPs", "10.7.0.300")}},
		{"both", "InvalidRequest", "spec.loadBalancerIP", []func(*corev1.Service){annotated("metallb.io/loadBalancerIPs", "10.7.0.1"), func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = "10.7.0.2" }}},
		{"taken", "AddressInUse", "apps/holder", []func(*corev1.Service){annotated("metallb.io/loadBalancerIPs", "10.7.0.0")}},
		{"outside", "AddressNotInPool", "192.0.2.9", []func(*corev1.Service){annotated("metallb.io/loadBalancerIPs", "192.0.2.9")}},
		{"no-pool", "PoolUnknown", `"nowhere"`, []func(*corev1.Service){annotated("metallb.io/address-pool", "nowhere")}},
		{"family", "FamilyMismatch", "cluster IPs", []func(*corev1.Service){annotated("metallb.io/loadBalancerIPs", "fd07::1")}},
		{"contradiction", "PoolUnknown", `"nowhere"`, []func(*corev1.Service){annotated("metallb.io/address-pool", "nowhere"), annotated("metallb.io/allow-shared-ip", "k")}},
		{"headless", "NoClusterIP", "no cluster IP", []func(*corev1.Service){func(svc *corev1.Service) { svc.Spec.ClusterIP = "None"; svc.Spec.Type = corev1.ServiceTypeClusterIP }}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := serviceObject("bad-"+tt.name, tt.change...)
			if svc.Spec.ClusterIP == "None" {
				// The API server itself refuses such a load balancer.
				svc.Spec.Type = corev1.ServiceTypeLoadBalancer
				if _, err := world.client.CoreV1().Services(namespace).Create(t.Context(), svc, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
					t.Errorf("a headless LoadBalancer: %v", err)
				}
				return
			}
			makeService(t, svc.Name, tt.change...)
			c := says(t, svc.Name, tt.reason)
			if c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, tt.words) {
				t.Errorf("condition %+v, want words %q", c, tt.words)
			}
			eventually(t, "a warning on the Service", func() error {
				if !hasEvent(t, getService(t, svc.Name), "AllocationFailed") {
					return fmt.Errorf("none yet")
				}
				return nil
			})
		})
	}
}

// What the schema can judge is refused at once, with a sentence; what it cannot
// is reported, and harms nothing else.
func TestBadPoolsAreRefusedOrReported(t *testing.T) {
	clean(t)
	startController(t).ready()
	for name, tt := range map[string]struct{ address, want string }{
		"a word":                {"example.com", "expected a CIDR such as 192.168.10.0/24"},
		"a length too long":     {"10.7.0.0/33", "expected a CIDR such as 192.168.10.0/24"},
		"a range to nowhere":    {"10.7.0.1-", "expected two IP addresses of one family joined by a dash"},
		"an address of its own": {"10.7.0.1", "a single address is a /32 or a /128"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
				"metadata": map[string]any{"name": "bad", "namespace": system},
				"spec":     map[string]any{"addresses": []any{tt.address}},
			}}
			_, err := world.dynamic.Resource(pools).Namespace(system).Create(t.Context(), o, metav1.CreateOptions{})
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "spec.addresses[0]") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	makePool(t, "mixed", "10.7.0.1-fd07::1", "10.7.1.0/30")
	makePool(t, "reversed", "10.7.2.9-10.7.2.1")
	eventually(t, "the ConfigurationState tells of both", func() error {
		o, err := world.dynamic.Resource(states).Namespace(system).Get(t.Context(), "controller", metav1.GetOptions{})
		if err != nil {
			return err
		}
		summary, _, _ := unstructured.NestedString(o.Object, "status", "errorSummary")
		for _, words := range []string{"IPAddressPool mixed, spec.addresses[0]", "IPAddressPool reversed, spec.addresses[0]"} {
			if !strings.Contains(summary, words) {
				return fmt.Errorf("%q does not mention %q", summary, words)
			}
		}
		return nil
	})
	makeService(t, "web")
	has(t, "web", "10.7.1.0")
}

func TestGossipSecretIsMadeOnce(t *testing.T) {
	clean(t)
	secrets := world.client.CoreV1().Secrets(system)
	if err := secrets.Delete(t.Context(), "memberlist", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	// Two replicas that start at once race for it.
	first, second := startController(t), startController(t)
	first.ready()
	second.ready()
	secret, err := secrets.Get(t.Context(), "memberlist", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.RawStdEncoding.DecodeString(string(secret.Data["secretkey"]))
	if err != nil || len(key) != 16 {
		t.Errorf("key of %d bytes (%v), want 16 in base64", len(key), err)
	}
	if len(secret.OwnerReferences) != 1 || secret.OwnerReferences[0].Kind != "Deployment" {
		t.Errorf("owners %v", secret.OwnerReferences)
	}
	startController(t).ready()
	again, err := secrets.Get(t.Context(), "memberlist", metav1.GetOptions{})
	if err != nil || again.ResourceVersion != secret.ResourceVersion {
		t.Errorf("the Secret was written again (%v)", err)
	}
}

// The API server goes away and comes back; what happened meanwhile is made up
// for.
func TestAPIServerOutage(t *testing.T) {
	clean(t)
	p := startController(t)
	p.ready()
	makePool(t, "main", "10.7.0.0/24")
	makeService(t, "before")
	has(t, "before", "10.7.0.0")
	if err := world.cp.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := world.cp.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	makeService(t, "after")
	has(t, "after", "10.7.0.1")
	has(t, "before", "10.7.0.0")
}

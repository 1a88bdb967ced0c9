package report

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllertest"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
)

func newKube(t *testing.T, objects ...client.Object) *kube {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, eventsv1.AddToScheme, v1beta1.AddToScheme, v1beta2.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&corev1.Service{}, &v1beta1.ServiceL2Status{}, &v1beta1.ServiceBGPStatus{}, &v1beta1.ConfigurationState{}, &v1alpha1.BGPSessionStatus{}).Build()
	return &kube{client: c, reader: c, node: "node-a", namespace: "herald"}
}

func get[T client.Object](t *testing.T, k *kube, namespace, name string, to T) T {
	t.Helper()
	if err := k.client.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, to); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestKubeWritesAServiceL2Status(t *testing.T) {
	k, ctx := newKube(t), context.Background()
	s := object("node-a", me.owner, "eth0", "eth1")
	if err := k.createStatus(ctx, s); err != nil {
		t.Fatal(err)
	}
	if err := k.createStatus(ctx, s); !apierrors.IsAlreadyExists(err) {
		t.Errorf("created twice: %v", err)
	}
	for _, interfaces := range [][]string{{"eth0", "eth1"}, nil} {
		want := me.status(web, interfaces)
		version, err := k.setStatus(ctx, s.Name, want)
		if err != nil {
			t.Fatal(err)
		}
		got := get(t, k, "herald", s.Name, &v1beta1.ServiceL2Status{})
		if diff := cmp.Diff(want, got.Status); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		if got.ResourceVersion != version {
			t.Errorf("version %q, want %q", version, got.ResourceVersion)
		}
		if diff := cmp.Diff(s.Labels, got.Labels); diff != "" || len(got.OwnerReferences) != 1 {
			t.Errorf("metadata %v, labels (-want +got):\n%s", got.OwnerReferences, diff)
		}
	}
	if err := k.deleteStatus(ctx, s.Name, s.UID); err != nil {
		t.Fatal(err)
	}
	if err := k.deleteStatus(ctx, s.Name, s.UID); !apierrors.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestKubeWritesItsOwnConditionOnly(t *testing.T) {
	foreign := metav1.Condition{Type: "heraldlb.io/Assigned", Status: metav1.ConditionTrue, Reason: "Assigned", LastTransitionTime: past}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u"}}
	svc.Status.Conditions = []metav1.Condition{foreign}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	k, ctx := newKube(t, svc), context.Background()
	want := condition(metav1.ConditionTrue, reason.Elected, assigned)
	version, err := k.setCondition(ctx, web, "u", want)
	if err != nil {
		t.Fatal(err)
	}
	got := get(t, k, "default", "web", &corev1.Service{})
	if c := announced(got); c == nil || !sameVerdict(*c, *want) || len(got.Status.Conditions) != 2 || len(got.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("status %+v", got.Status)
	}
	if got.ResourceVersion != version {
		t.Errorf("version %q, want %q", version, got.ResourceVersion)
	}
	if _, err := k.setCondition(ctx, web, "u", nil); err != nil {
		t.Fatal(err)
	}
	got = get(t, k, "default", "web", &corev1.Service{})
	if announced(got) != nil || len(got.Status.Conditions) != 1 || len(got.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("after the condition was taken away: %+v", got.Status)
	}
}

func TestKubeWritesTheConfigurationState(t *testing.T) {
	k, ctx := newKube(t), context.Background()
	s := me.newState()
	if err := k.createState(ctx, s); err != nil {
		t.Fatal(err)
	}
	for _, problems := range [][]config.Problem{{{Kind: "IPAddressPool", Name: "pool", Severity: config.Error, Message: "no"}}, nil} {
		want := decideState(nil, problems, metav1.NewTime(time.Unix(1000, 0)))
		if _, err := k.setState(ctx, s.Name, *want); err != nil {
			t.Fatal(err)
		}
		got := get(t, k, "herald", s.Name, &v1beta1.ConfigurationState{})
		if got.Status.Result != want.Result || got.Status.ErrorSummary != want.ErrorSummary || !sameVerdict(got.Status.Conditions[0], want.Conditions[0]) {
			t.Errorf("status %+v, want %+v", got.Status, *want)
		}
		if got.Labels["metallb.io/component-type"] != "speaker" || got.Labels["metallb.io/node-name"] != "node-a" {
			t.Errorf("labels %v", got.Labels)
		}
	}
}

func TestKubeWritesEvents(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u"}}
	pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: "pool", UID: "p"}}
	k, ctx := newKube(t, svc, pool), context.Background()
	if err := k.serviceEvent(ctx, svc, note{reason: eventAssigned, text: assigned}); err != nil {
		t.Fatal(err)
	}
	if err := k.serviceEvent(ctx, svc, note{reason: eventFailed, text: strings.Repeat("long ", 500), warning: true}); err != nil {
		t.Fatal(err)
	}
	bad := config.Problem{Kind: "IPAddressPool", Namespace: "herald", Name: "pool", Field: "spec.addresses[0]", Severity: config.Error, Message: "no"}
	if err := k.problemEvent(ctx, bad); err != nil {
		t.Fatal(err)
	}
	if err := k.problemEvent(ctx, bad); !apierrors.IsAlreadyExists(err) {
		t.Errorf("the same problem was told twice: %v", err)
	}
	for _, p := range []config.Problem{{Kind: "Teapot"}, {Kind: "BGPPeer", Namespace: "herald", Name: "gone"}} {
		if err := k.problemEvent(ctx, p); err == nil {
			t.Errorf("an event about %s %q, which is not there", p.Kind, p.Name)
		}
	}
	var list eventsv1.EventList
	if err := k.client.List(ctx, &list); err != nil {
		t.Fatal(err)
	}
	by := map[string]eventsv1.Event{}
	for _, e := range list.Items {
		by[e.Reason] = e
		if e.ReportingController != "metallb-speaker" || e.ReportingInstance == "" || e.EventTime.IsZero() || e.Action == "" || len(e.Note) > maxNote || e.Namespace != e.Regarding.Namespace {
			t.Errorf("the API server would refuse %+v", e)
		}
	}
	if e := by["nodeAssigned"]; e.Note != assigned || e.Type != "Normal" || e.Regarding.Kind != "Service" || e.Regarding.UID != "u" {
		t.Errorf("nodeAssigned: %+v", e)
	}
	if e := by["announceFailed"]; e.Type != "Warning" {
		t.Errorf("announceFailed: %+v", e)
	}
	if e := by["ConfigurationError"]; e.Type != "Warning" || e.Regarding.Kind != "IPAddressPool" || e.Regarding.APIVersion != "metallb.io/v1beta1" || e.Regarding.UID != "p" {
		t.Errorf("ConfigurationError: %+v", e)
	}
}

func TestKubeReads(t *testing.T) {
	owned := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: "speaker-1", UID: "pod-1"}}
	controller := me.owner
	controller.Controller = ptr.To(true)
	owned.OwnerReferences = []metav1.OwnerReference{{Kind: "Other", UID: "x"}, controller}
	bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: "speaker-2", UID: "pod-2"}}
	k, ctx := newKube(t, owned, bare), context.Background()
	if got, err := k.owner(ctx, "speaker-1"); err != nil || got != me.owner {
		t.Errorf("owner %+v, %v, want %+v", got, err, me.owner)
	}
	if got, err := k.owner(ctx, "speaker-2"); err != nil || got != (metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "speaker-2", UID: "pod-2"}) {
		t.Errorf("owner of a pod without a DaemonSet: %+v, %v", got, err)
	}
	if _, err := k.owner(ctx, "speaker-3"); !apierrors.IsNotFound(err) {
		t.Errorf("a pod that is not there: %v", err)
	}
	if _, err := k.service(ctx, web); !apierrors.IsNotFound(err) {
		t.Errorf("a Service that is not there: %v", err)
	}
}

// seen keeps what the watches tell.
type seen struct {
	mu    sync.Mutex
	lines []string
}

func (s *seen) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *seen) serviceSeen(svc *corev1.Service) { s.add("service %s", svc.Name) }
func (s *seen) statusSeen(st *v1beta1.ServiceL2Status, gone bool) {
	s.add("status %s gone=%v", st.Name, gone)
}
func (s *seen) bgpStatusSeen(st *v1beta1.ServiceBGPStatus, gone bool) {
	s.add("bgp status %s gone=%v", st.Name, gone)
}
func (s *seen) sessionSeen(st *v1alpha1.BGPSessionStatus, gone bool) {
	s.add("session %s gone=%v", st.Name, gone)
}
func (s *seen) stateSeen(st *v1beta1.ConfigurationState, gone bool) {
	s.add("state %s gone=%v", st.Name, gone)
}

func TestKubeWatches(t *testing.T) {
	ctx := context.Background()
	k := newKube(t)
	informers := &informertest.FakeInformers{Scheme: k.client.Scheme()}
	k.cache = informers
	to := &seen{}
	if err := k.watch(ctx, to); err != nil {
		t.Fatal(err)
	}
	informer := func(o client.Object) *controllertest.FakeInformer {
		i, err := informers.FakeInformerFor(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	informer(svc).Add(svc)
	informer(svc).Update(svc, svc)
	informer(svc).Delete(svc)
	st := &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Name: "l2-1"}}
	informer(st).Add(st)
	informer(st).Delete(st)
	cs := &v1beta1.ConfigurationState{ObjectMeta: metav1.ObjectMeta{Name: "speaker-node-a"}}
	informer(cs).Update(cs, cs)
	bgp := &v1beta1.ServiceBGPStatus{ObjectMeta: metav1.ObjectMeta{Name: "bgp-1"}}
	informer(bgp).Add(bgp)
	informer(bgp).Delete(bgp)
	session := &v1alpha1.BGPSessionStatus{ObjectMeta: metav1.ObjectMeta{Name: "bgp-2"}}
	informer(session).Update(session, session)
	informer(session).Delete(session)
	want := []string{"service web", "service web", "status l2-1 gone=false", "status l2-1 gone=true", "state speaker-node-a gone=false",
		"bgp status bgp-1 gone=false", "bgp status bgp-1 gone=true", "session bgp-2 gone=false", "session bgp-2 gone=true"}
	if diff := cmp.Diff(want, to.lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	by := CacheOptions("node-a")
	for o, options := range by {
		switch o.(type) {
		case *v1beta1.ConfigurationState:
			if options.Field.String() != "metadata.name=speaker-node-a" {
				t.Errorf("%T is cached with %v", o, options.Field)
			}
		case *v1alpha1.BGPSessionStatus:
			if options.Label.String() != "metallb.io/node=node-a" {
				t.Errorf("%T is cached with %v", o, options.Label)
			}
		case *v1beta1.ServiceL2Status, *v1beta1.ServiceBGPStatus:
			if options.Transform == nil {
				t.Errorf("%T is cached whole", o)
			}
		default:
			t.Errorf("%T has options", o)
		}
	}
	if len(by) != 4 {
		t.Errorf("%d kinds with options, want 4", len(by))
	}
	informers.Error = errors.New("no such kind")
	if err := k.watch(ctx, to); err == nil || !strings.Contains(err.Error(), "no such kind") {
		t.Errorf("watch: %v", err)
	}
}

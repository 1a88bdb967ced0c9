//go:build lab

package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"strconv"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/herald"
)

// scraper is the service account that reads metrics, as Prometheus's would.
const scraper = "e2e-scraper"

// metricsPort is the port of config/controllers.
const metricsPort = "9120"

// allowMetrics makes the scraper's account and its right.
func (w *World) allowMetrics(ctx context.Context) error {
	_, err := w.Kube.CoreV1().ServiceAccounts(herald.Namespace).Create(ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: scraper}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the scraper's account: %w", err)
	}
	_, err = w.Kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: scraper},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "metallb-system:metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: scraper, Namespace: herald.Namespace}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("let the scraper read metrics: %w", err)
	}
	return nil
}

// Sample is one line of a scrape.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Samples are a scrape.
type Samples []Sample

// Of returns the samples of a name that have the labels (key, value, ...).
func (s Samples) Of(name string, labels ...string) Samples {
	var out Samples
	for _, x := range s {
		ok := x.Name == name
		for i := 0; ok && i+1 < len(labels); i += 2 {
			ok = x.Labels[labels[i]] == labels[i+1]
		}
		if ok {
			out = append(out, x)
		}
	}
	return out
}

// Value returns the value of the one sample of a name that has the labels.
func (s Samples) Value(name string, labels ...string) (float64, error) {
	found := s.Of(name, labels...)
	if len(found) != 1 {
		return 0, fmt.Errorf("%d samples of %s with the labels %v, want one", len(found), name, labels)
	}
	return found[0].Value, nil
}

// SpeakerMetrics scrapes the speaker of a node, with a token.
func (h *Test) SpeakerMetrics(node string) (Samples, error) {
	pod, err := h.Speaker(node)
	if err != nil {
		return nil, err
	}
	return h.Metrics(pod)
}

// ControllerMetrics scrapes the controller that leads: the replica that counts
// pools.
func (h *Test) ControllerMetrics() (Samples, error) {
	lease, err := h.Kube.CoordinationV1().Leases(herald.Namespace).Get(h.Ctx, "metallb-controller", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if lease.Spec.HolderIdentity == nil {
		return nil, errors.New("no controller leads")
	}
	pods, err := h.heraldPods(h.Ctx, "controller")
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		if strings.HasPrefix(*lease.Spec.HolderIdentity, p.Name) {
			return h.Metrics(p.Name)
		}
	}
	return nil, fmt.Errorf("the leader %s is no pod", *lease.Spec.HolderIdentity)
}

// Metrics scrapes a pod of Herald over HTTPS with a token of an account that may
// read metrics. The control plane's machine asks, which reaches every pod.
func (h *Test) Metrics(pod string) (Samples, error) {
	token, err := h.Kube.CoreV1().ServiceAccounts(herald.Namespace).CreateToken(h.Ctx, scraper, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	p, err := h.Kube.CoreV1().Pods(herald.Namespace).Get(h.Ctx, pod, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	url := "https://" + net.JoinHostPort(p.Status.PodIP, metricsPort) + "/metrics"
	text, err := h.Exec(h.Ctx, "cp", "curl", "--silent", "--show-error", "--fail", "--insecure", "--max-time", "5",
		"--header", "Authorization: Bearer "+token.Status.Token, url)
	if err != nil {
		// The command line of the error would show the token.
		return nil, fmt.Errorf("scrape %s of pod %s: %w", url, pod, lastError(err))
	}
	return parseSamples(text)
}

func lastError(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}

var (
	samplePattern = regexp.MustCompile(`^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$`)
	labelPattern  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// parseSamples reads Prometheus's text format.
func parseSamples(text string) (Samples, error) {
	var out Samples
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := samplePattern.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("a line of metrics that is none: %q", line)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, fmt.Errorf("a line of metrics that is none: %q", line)
		}
		s := Sample{Name: m[1], Labels: map[string]string{}, Value: value}
		maps.Insert(s.Labels, func(yield func(string, string) bool) {
			for _, l := range labelPattern.FindAllStringSubmatch(m[2], -1) {
				if !yield(l[1], l[2]) {
					return
				}
			}
		})
		out = append(out, s)
	}
	return out, nil
}

//go:build lab

package bench

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/e2etest/bench/progress"
	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

// limit bounds one benchmark, its lab included: three times what the longest
// takes when the machine has nothing else to do.
const limit = 8 * time.Minute

// A world is one benchmark's lab, with Herald installed.
type world struct {
	*testing.B
	*lab.Cluster
	ctx     context.Context
	kube    kubernetes.Interface
	dynamic dynamic.Interface
}

// newWorld makes a lab that ends with the benchmark, and installs Herald in it
// once prepare has filled it.
func newWorld(b *testing.B, name string, nodes int, prepare func(*world)) *world {
	b.Helper()
	b.ReportMetric(0, "ns/op") // the time of a whole benchmark says nothing
	ctx, cancel := context.WithTimeout(b.Context(), limit)
	b.Cleanup(cancel)
	w := &world{B: b, ctx: ctx}
	w.load("start")
	// Outside of the lab's own folder, so that the logs are there after a failure.
	logs := filepath.Join(os.TempDir(), "herald-bench-"+name)
	w.must(os.RemoveAll(logs))
	var err error
	w.Cluster, err = lab.Up(ctx, lab.Options{Name: name, Nodes: nodes, LogDir: logs, Life: 2 * limit})
	w.must(err)
	b.Cleanup(func() {
		if err := w.Down(); err != nil {
			b.Errorf("take the lab down: %v", err)
		}
		if b.Failed() {
			b.Logf("the logs of the lab are in %s", logs)
			return
		}
		_ = os.RemoveAll(logs) // only logs that nobody needs
	})
	cfg, err := w.RESTConfig()
	w.must(err)
	cfg.QPS = -1 // the API server paces
	w.dynamic, err = dynamic.NewForConfig(cfg)
	w.must(err)
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
	w.kube, err = kubernetes.NewForConfig(cfg)
	w.must(err)
	prepare(w)
	w.must(herald.Install(ctx, w.Cluster))
	w.enableProfiles()
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) load(when string) { progress.Load(w, when) }

func (w *world) step(format string, args ...any) { progress.Step(w, format, args...) }

// until polls a condition until it holds, and fails with its last complaint.
func (w *world) until(what string, within, every time.Duration, condition func() error) {
	w.Helper()
	progress.Until(w.ctx, w, what, within, every, condition)
}

// stopProxies stops kube-proxy on every node, after it has written the rules by
// which pods reach the API server. Thousands of Services would otherwise occupy
// the kube-proxies of all nodes, which on this one machine are Herald's neighbours.
func (w *world) stopProxies() {
	w.Helper()
	for _, n := range w.State.Layout.Nodes {
		w.must(w.StopProgram(w.ctx, n.Name, "kube-proxy"))
	}
}

// pods returns Herald's pods of a component that are not being deleted.
func (w *world) pods(component string) []corev1.Pod {
	w.Helper()
	list, err := w.kube.CoreV1().Pods(herald.Namespace).List(w.ctx, metav1.ListOptions{LabelSelector: "component=" + component})
	w.must(err)
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// deletePod deletes one of Herald's pods, as `kubectl delete pod` does.
func (w *world) deletePod(name string) {
	w.Helper()
	w.must(w.kube.CoreV1().Pods(herald.Namespace).Delete(w.ctx, name, metav1.DeleteOptions{}))
}

// httpClient is a client that sits on a host of the lab.
func (w *world) httpClient(host string) *http.Client {
	w.Helper()
	h, err := w.State.Layout.Host(host)
	w.must(err)
	ns, err := nsnet.Open(h.Namespace)
	w.must(err)
	w.Cleanup(ns.Close)
	var d net.Dialer
	return &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = ns.Do(func() (err error) {
				conn, err = d.DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}
}

func median[T int | float64 | time.Duration](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

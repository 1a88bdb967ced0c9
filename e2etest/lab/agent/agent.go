package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"github.com/heraldlb/herald/e2etest/lab/agent/podnet"
	"github.com/heraldlb/herald/e2etest/lab/agent/sandbox"
)

// Config is what one node needs to know. Run is called in the network namespace
// that is to be the node's.
type Config struct {
	// Name is the node's name.
	Name string
	// Kubeconfig is the file with the node's access to the API server.
	Kubeconfig string
	// PodCIDRs are the prefixes of the node's pods, at most one per family; the
	// first family is the primary one.
	PodCIDRs []netip.Prefix
	// NodeIPs are the node's own addresses, in the same order.
	NodeIPs []netip.Addr
	// ImagesFile maps image names to binaries; see Image.
	ImagesFile string
	// StateDir holds the node's logs, pid files and volumes.
	StateDir string
	// Labels are added to the Node's.
	Labels map[string]string
	// ClusterDNS is written into the pods' resolv.conf.
	ClusterDNS []netip.Addr
	// LeaseSeconds is the life of the node's Lease; it is renewed four times in
	// it. 0 is a kubelet's 40 s.
	LeaseSeconds int
	// Port is where kubectl logs and exec are served; 0 is a kubelet's 10250.
	Port int
	// TLSCert and TLSKey are the files of the certificate that kubectl logs and
	// exec are served with; without them the agent makes one that nobody knows.
	TLSCert, TLSKey string
	// ClientCA is the file of the authority that signed the API server's client
	// certificate. Without it nobody is asked who he is.
	ClientCA string
	// Log receives what the agent has to say.
	Log *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("the node needs a name")
	case len(c.NodeIPs) == 0:
		return fmt.Errorf("node %s: expected at least one node address", c.Name)
	case len(c.PodCIDRs) == 0 || len(c.PodCIDRs) > 2:
		return fmt.Errorf("node %s: expected one pod CIDR or two, got %d", c.Name, len(c.PodCIDRs))
	case c.StateDir == "" || c.ImagesFile == "":
		return fmt.Errorf("node %s: expected a state directory and an images file", c.Name)
	}
	if c.LeaseSeconds == 0 {
		c.LeaseSeconds = 40
	}
	if c.Port == 0 {
		c.Port = 10250
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Agent runs the pods of one node.
type Agent struct {
	cfg         Config
	client      kubernetes.Interface
	recorder    record.EventRecorder
	spawner     *sandbox.Spawner
	net         *podnet.Node
	images      *images
	watcher     *watcher
	allocatable corev1.ResourceList

	mu         sync.Mutex // guards all following fields
	workers    map[types.UID]*worker
	kubernetes *corev1.Service
	life       context.Context
	running    sync.WaitGroup
}

// stopGrace is what pods get when the agent itself ends.
const stopGrace = time.Second

// Run registers the node and runs its pods until ctx ends. Then it stops them
// and returns when nothing of them is left.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	client, err := newClient(cfg.Kubeconfig)
	if err != nil {
		return err
	}
	if err := cleanState(cfg.StateDir); err != nil {
		return err
	}
	node, err := podnet.NewNode(cfg.PodCIDRs, cfg.NodeIPs)
	if err != nil {
		return fmt.Errorf("prepare the node's network: %w", err)
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	life, end := context.WithCancel(ctx)
	defer end()
	a := &Agent{
		cfg: cfg, client: client, net: node, spawner: sandbox.NewSpawner(),
		recorder: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: cfg.Name}),
		images:   &images{path: cfg.ImagesFile}, watcher: newWatcher(life, client),
		allocatable: capacity(), workers: map[types.UID]*worker{}, life: life,
	}
	return a.run(ctx)
}

func (a *Agent) run(ctx context.Context) error {
	// The spawner ends last, and takes with it what was not stopped.
	spawnCtx, stopSpawner := context.WithCancel(context.WithoutCancel(ctx))
	var spawner sync.WaitGroup
	spawner.Go(func() { a.spawner.Run(spawnCtx) })
	defer spawner.Wait()
	defer stopSpawner()

	var rooms sync.WaitGroup
	defer rooms.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.stopAll()
	rooms.Go(func() { a.serveNode(ctx) })
	rooms.Go(func() {
		if err := a.serveAPI(ctx); err != nil {
			a.cfg.Log.Error("kubectl logs and exec are not served", "err", err)
		}
	})
	return a.watchPods(ctx)
}

// watchPods follows the pods that are bound to this node.
func (a *Agent) watchPods(ctx context.Context) error {
	source := cache.NewListWatchFromClient(a.client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll,
		fields.OneTermEqualSelector("spec.nodeName", a.cfg.Name))
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source,
		ObjectType:    &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(obj any) { a.sync(obj.(*corev1.Pod)) },
			UpdateFunc: func(old, obj any) {
				// After a lost watch, a new pod of the same name looks like an update.
				if was, is := old.(*corev1.Pod), obj.(*corev1.Pod); was.UID != is.UID {
					a.gone(was)
				}
				a.sync(obj.(*corev1.Pod))
			},
			DeleteFunc: func(obj any) {
				if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = t.Obj
				}
				a.gone(obj.(*corev1.Pod))
			},
		},
	})
	a.cfg.Log.Info("node agent runs", "node", a.cfg.Name)
	informer.RunWithContext(ctx)
	return nil
}

// sync brings a pod to its worker, and starts one for a new pod.
func (a *Agent) sync(pod *corev1.Pod) {
	a.mu.Lock()
	w := a.workers[pod.UID]
	if w == nil {
		over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if (over && pod.DeletionTimestamp == nil) || a.life.Err() != nil {
			a.mu.Unlock()
			return
		}
		w = newWorker(a.life, a, pod)
		a.workers[pod.UID] = w
		defer a.running.Go(func() { w.run(a.life) })
	}
	a.mu.Unlock()
	w.update(pod)
}

// gone ends the worker of a pod that the API server does not have any more.
func (a *Agent) gone(pod *corev1.Pod) {
	a.mu.Lock()
	w := a.workers[pod.UID]
	delete(a.workers, pod.UID)
	a.mu.Unlock()
	if w != nil {
		w.update(pod)
		w.remove()
	}
}

// stopAll stops every pod, in a second, and waits for their ends.
func (a *Agent) stopAll() {
	a.mu.Lock()
	for _, w := range a.workers {
		w.stopWithin(stopGrace)
	}
	a.mu.Unlock()
	a.running.Wait()
}

func (a *Agent) event(pod *corev1.Pod, kind, reason, format string, args ...any) {
	a.recorder.Eventf(pod, kind, reason, format, args...)
}

// maxServiceLinks bounds the Services that a pod gets environment variables of.
// A kubelet has no bound, and with thousands of Services in a namespace its
// containers do not start, for the environment is too long.
const maxServiceLinks = 100

// services are those that a pod's environment names: the API server's, and the
// ones of the pod's namespace unless it says enableServiceLinks: false.
func (a *Agent) services(ctx context.Context, pod *corev1.Pod) ([]*corev1.Service, error) {
	a.mu.Lock()
	api := a.kubernetes
	a.mu.Unlock()
	if api == nil {
		var err error
		if api, err = a.client.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{}); err != nil {
			return nil, fmt.Errorf("find the API server's Service: %w", err)
		}
		a.mu.Lock()
		a.kubernetes = api
		a.mu.Unlock()
	}
	out := []*corev1.Service{api}
	if l := pod.Spec.EnableServiceLinks; l != nil && !*l {
		return out, nil
	}
	list, err := a.client.CoreV1().Services(pod.Namespace).List(ctx, metav1.ListOptions{Limit: maxServiceLinks})
	if err != nil {
		return nil, fmt.Errorf("list the Services of namespace %s: %w", pod.Namespace, err)
	}
	for i := range list.Items {
		if s := &list.Items[i]; s.Namespace != api.Namespace || s.Name != api.Name {
			out = append(out, s)
		}
	}
	return out, nil
}

// newClient has no client-side rate limit: a lab's pods should not queue.
func newClient(kubeconfig string) (kubernetes.Interface, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	cfg.QPS = -1
	cfg.UserAgent = rest.DefaultKubernetesUserAgent() + "/lab-agent"
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client from %s: %w", kubeconfig, err)
	}
	return client, nil
}

// cleanState makes the state directory, and removes what an earlier agent left
// in it, except logs. Processes it cannot have left: they end with it.
func cleanState(dir string) error {
	for _, sub := range []string{"pods", "pids"} {
		if err := os.RemoveAll(filepath.Join(dir, sub)); err != nil {
			return fmt.Errorf("clean the state directory: %w", err)
		}
	}
	for _, sub := range []string{"pods", "pids", "logs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return fmt.Errorf("make the state directory: %w", err)
		}
	}
	return nil
}

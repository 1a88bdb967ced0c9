package manager

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/heraldlb/herald/internal/version"
)

// Options say what New builds. Only Name and Namespace are mandatory; an empty
// address means that its server is off.
type Options struct {
	// Name of the component: the user agent's.
	Name string
	// Namespace of Herald's own objects.
	Namespace string
	// Config reaches the cluster. Nil means Kubeconfig, and if that is empty,
	// the pod's service account.
	Config     *rest.Config
	Kubeconfig string

	// MetricsAddress serves /metrics over HTTPS, to authorised callers only.
	MetricsAddress string
	// MetricsCertDir holds tls.crt and tls.key; empty means self-signed.
	MetricsCertDir string
	TLS            TLS
	// ProbeAddress serves /healthz and /readyz over HTTP.
	ProbeAddress string
	PprofAddress string

	// Ready are the named conditions of /readyz: each returns nil, or why the
	// process cannot do its work yet. They are asked on each probe, in any
	// goroutine, and must answer at once.
	Ready map[string]func() error

	// LeaderElection names the Lease for which replicas compete. Empty means
	// that every replica works, which is what a speaker does.
	LeaderElection string
	// LeaseRenewed is told, in any goroutine, when the lease was taken or
	// renewed: the time just before the request that did it.
	LeaseRenewed func(asked time.Time)

	// Cache adds to, or replaces, how single kinds are cached. The default is
	// Herald's namespace, but all namespaces for Services and EndpointSlices,
	// and no managed fields.
	Cache map[client.Object]cache.ByObject

	// GracePeriod is how long parts may take to end once the context is done.
	// Zero means 10 s. Keep it below the pod's terminationGracePeriodSeconds.
	GracePeriod time.Duration
}

// New builds a manager and writes the start line.
//
// When leader election is on, the process must exit as soon as Start returns:
// the lease is given back at that moment, and another replica is at work.
func New(log *slog.Logger, o Options) (ctrlmanager.Manager, error) {
	if o.Name == "" || o.Namespace == "" {
		return nil, errors.New("build the manager: the component's name and namespace are mandatory")
	}
	built := version.Get()
	log.Info("starting "+o.Name, "version", built.Version, "commit", built.Commit, "goversion", built.GoVersion, "namespace", o.Namespace)

	cfg, err := restConfig(o)
	if err != nil {
		return nil, err
	}
	scheme, err := NewScheme()
	if err != nil {
		return nil, err
	}
	metrics, err := metricsOptions(o)
	if err != nil {
		return nil, err
	}
	if o.GracePeriod == 0 {
		o.GracePeriod = 10 * time.Second
	}
	mgr, err := ctrlmanager.New(cfg, ctrlmanager.Options{
		Scheme:                  scheme,
		MapperProvider:          func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return newMapper(scheme), nil },
		Logger:                  logrFor(log),
		Cache:                   cacheOptions(o.Namespace, o.Cache),
		Metrics:                 metrics,
		HealthProbeBindAddress:  orOff(o.ProbeAddress),
		PprofBindAddress:        orOff(o.PprofAddress),
		GracefulShutdownTimeout: &o.GracePeriod,
		Controller: ctrlconfig.Controller{
			// A panic in a reconcile is a bug to see, not one to sleep over: the
			// process ends, and the kubelet starts it again.
			RecoverPanic: ptr.To(false),
			// Tests build several managers in one process.
			SkipNameValidation: ptr.To(true),
		},
		LeaderElection:                o.LeaderElection != "",
		LeaderElectionID:              o.LeaderElection,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaderElectionConfig:          electionConfig(cfg, o.LeaseRenewed),
		LeaseDuration:                 ptr.To(LeaseDuration),
		RenewDeadline:                 ptr.To(RenewDeadline),
		RetryPeriod:                   ptr.To(retryPeriod),
	})
	if err != nil {
		return nil, fmt.Errorf("build the manager: %w", err)
	}
	return mgr, addProbes(mgr, o.Ready)
}

// restConfig leaves the pacing of requests to the API server's priority and
// fairness: it sees all clients, and a limit here only makes failover slower.
func restConfig(o Options) (*rest.Config, error) {
	cfg := o.Config
	if cfg == nil {
		var err error
		if cfg, err = clientcmd.BuildConfigFromFlags("", o.Kubeconfig); err != nil {
			return nil, fmt.Errorf("find out how to reach the cluster (kubeconfig %q): %w", o.Kubeconfig, err)
		}
	}
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.UserAgent = "herald-" + o.Name + "/" + version.Get().Version
	return cfg, nil
}

func metricsOptions(o Options) (metricsserver.Options, error) {
	if o.MetricsAddress == "" {
		return metricsserver.Options{BindAddress: "0"}, nil
	}
	policy, err := o.TLS.Apply()
	if err != nil {
		return metricsserver.Options{}, err
	}
	metrics := metricsserver.Options{
		BindAddress:    o.MetricsAddress,
		SecureServing:  true,
		FilterProvider: newMetricsFilter,
		CertDir:        o.MetricsCertDir,
	}
	metrics.TLSOpts = append(metrics.TLSOpts, policy)
	if o.MetricsCertDir == "" {
		// The library would look for one below the world's temporary directory.
		cert, err := selfSigned(o.Name, time.Now())
		if err != nil {
			return metricsserver.Options{}, err
		}
		metrics.TLSOpts = append(metrics.TLSOpts, func(c *tls.Config) {
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
		})
	}
	return metrics, nil
}

func orOff(address string) string {
	if address == "" {
		return "0"
	}
	return address
}

func addProbes(mgr ctrlmanager.Manager, ready map[string]func() error) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add the health check: %w", err)
	}
	for name, check := range ready {
		if err := mgr.AddReadyzCheck(name, func(*http.Request) error { return check() }); err != nil {
			return fmt.Errorf("add the readiness check %s: %w", name, err)
		}
	}
	return nil
}

package manager

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// serviceAccountNamespace is where a pod finds the name of its namespace.
const serviceAccountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Process is how a process runs, in flags: those that the controller and the
// speaker share. Their names are MetalLB's.
type Process struct {
	Namespace       string
	Kubeconfig      string
	LogLevel        string
	MetricsPort     int
	MetricsCertDir  string
	HealthProbePort int
	PprofAddress    string
	TLS             TLS
}

// AddFlags declares the shared flags on fs. Defaults from the environment are
// taken with getenv, which is os.Getenv outside tests.
func (p *Process) AddFlags(fs *flag.FlagSet, getenv func(string) string) {
	fs.StringVar(&p.Namespace, "namespace", getenv("METALLB_NAMESPACE"),
		"`namespace` of Herald's own objects (env METALLB_NAMESPACE; empty: the service account's)")
	fs.StringVar(&p.Kubeconfig, "kubeconfig", getenv("KUBECONFIG"),
		"`file` that says how to reach the cluster (env KUBECONFIG; empty: the pod's service account)")
	fs.StringVar(&p.LogLevel, "log-level", "info",
		"least `level` that is logged: "+strings.Join(LogLevels(), ", "))
	fs.IntVar(&p.MetricsPort, "port", 9120, "`port` of the HTTPS metrics server; 0 turns it off")
	fs.StringVar(&p.MetricsCertDir, "metrics-cert-dir", "",
		"`directory` with tls.crt and tls.key of the metrics server, read again when they change (empty: self-signed)")
	fs.IntVar(&p.HealthProbePort, "health-probe-port", 17472, "`port` of /healthz and /readyz; 0 turns them off")
	fs.StringVar(&p.PprofAddress, "pprof-bind-address", "", "`address` of the pprof server, such as 127.0.0.1:6060 (empty: off)")
	fs.StringVar(&p.TLS.MinVersion, "tls-min-version", "", "least TLS `version` of the metrics server: VersionTLS12 or VersionTLS13 (empty: VersionTLS13)")
	fs.StringVar(&p.TLS.CipherSuites, "tls-cipher-suites", "", "comma `list` of cipher suites; with VersionTLS12 only (empty: Go's choice)")
	fs.StringVar(&p.TLS.CurvePreferences, "tls-curve-preferences", "", "comma `list` of numeric curve identifiers (empty: Go's choice)")
}

// Validate fills in the namespace and reports every value that is wrong by the
// name of its flag.
func (p *Process) Validate() error {
	if _, ok := levels[p.LogLevel]; !ok {
		return fmt.Errorf("--log-level %q: expected one of %s", p.LogLevel, strings.Join(LogLevels(), ", "))
	}
	if p.Namespace == "" {
		b, err := os.ReadFile(serviceAccountNamespace)
		if err != nil {
			return fmt.Errorf("--namespace is empty, METALLB_NAMESPACE is not set and there is no service account to take it from: %w", err)
		}
		p.Namespace = strings.TrimSpace(string(b))
	}
	for name, port := range map[string]int{"port": p.MetricsPort, "health-probe-port": p.HealthProbePort} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("--%s %d: expected 0 to 65535", name, port)
		}
	}
	if p.PprofAddress != "" {
		if _, _, err := net.SplitHostPort(p.PprofAddress); err != nil {
			return fmt.Errorf("--pprof-bind-address %q: expected host:port: %w", p.PprofAddress, err)
		}
	}
	if p.MetricsCertDir != "" {
		for _, file := range []string{"tls.crt", "tls.key"} {
			if _, err := os.Stat(filepath.Join(p.MetricsCertDir, file)); err != nil {
				return fmt.Errorf("--metrics-cert-dir: %w", err)
			}
		}
	}
	_, err := p.TLS.Apply()
	return err
}

// Options turns the flags into options for New. The name is the component's;
// the probe host is "" for all interfaces.
func (p *Process) Options(name, probeHost string) Options {
	o := Options{
		Name: name, Namespace: p.Namespace, Kubeconfig: p.Kubeconfig,
		MetricsCertDir: p.MetricsCertDir, PprofAddress: p.PprofAddress, TLS: p.TLS,
	}
	if p.MetricsPort != 0 {
		o.MetricsAddress = net.JoinHostPort("", strconv.Itoa(p.MetricsPort))
	}
	if p.HealthProbePort != 0 {
		o.ProbeAddress = net.JoinHostPort(probeHost, strconv.Itoa(p.HealthProbePort))
	}
	return o
}

// Ignored is a flag that MetalLB has and Herald does not need.
type Ignored struct {
	Name string
	// Bool says that the flag may stand without a value.
	Bool bool
	// Why is the end of the sentence "accepted and ignored: ...".
	Why string
}

// IgnoreFlags declares flags without effect, so that existing manifests start.
// Call given once fs is parsed: it names those that were set, for a warning.
func IgnoreFlags(fs *flag.FlagSet, flags []Ignored) (given func() []string) {
	for _, f := range flags {
		fs.Var(ignored(f), f.Name, "accepted and ignored: "+f.Why)
	}
	return func() []string {
		var names []string
		fs.Visit(func(f *flag.Flag) {
			if _, ok := f.Value.(ignored); ok {
				names = append(names, f.Name)
			}
		})
		slices.Sort(names)
		return names
	}
}

// ignored implements flag.Value; the flag package asks IsBoolFlag whether a
// value must follow.
type ignored Ignored

func (ignored) String() string     { return "" }
func (ignored) Set(string) error   { return nil }
func (f ignored) IsBoolFlag() bool { return f.Bool }

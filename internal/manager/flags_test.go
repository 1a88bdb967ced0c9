package manager

import (
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, env map[string]string, args ...string) (*Process, error) {
	t.Helper()
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var p Process
	p.AddFlags(fs, func(k string) string { return env[k] })
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &p, p.Validate()
}

func TestFlagsBecomeOptions(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		args []string
		host string
		want Options
	}{
		{
			name: "the defaults are MetalLB's",
			env:  map[string]string{"METALLB_NAMESPACE": "metallb-system"},
			want: Options{Name: "x", Namespace: "metallb-system", MetricsAddress: ":9120", ProbeAddress: ":17472"},
		},
		{
			name: "the speaker's probes listen on loopback",
			args: []string{"-namespace=lb"},
			host: "127.0.0.1",
			want: Options{Name: "x", Namespace: "lb", MetricsAddress: ":9120", ProbeAddress: "127.0.0.1:17472"},
		},
		{
			name: "port 0 turns a server off, and a flag beats the environment",
			env:  map[string]string{"METALLB_NAMESPACE": "metallb-system"},
			args: []string{"--namespace", "lb", "--port=0", "--health-probe-port=0", "--tls-min-version=VersionTLS12"},
			want: Options{Name: "x", Namespace: "lb", TLS: TLS{MinVersion: "VersionTLS12"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parse(t, tt.env, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, p.Options("x", tt.host)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWrongFlagsAreNamed(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"a level that does not exist", []string{"--log-level=loud"}, `--log-level "loud": expected one of all, debug`},
		{"a port above the range", []string{"--port=70000"}, "--port 70000: expected 0 to 65535"},
		{"a negative probe port", []string{"--health-probe-port=-1"}, "--health-probe-port -1"},
		{"a pprof address without a port", []string{"--pprof-bind-address=localhost"}, `--pprof-bind-address "localhost": expected host:port`},
		{"a certificate directory without a certificate", []string{"--metrics-cert-dir=" + t.TempDir()}, "--metrics-cert-dir: stat"},
		{"an unknown curve", []string{"--tls-curve-preferences=P256"}, `--tls-curve-preferences: "P256"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(t, nil, append([]string{"--namespace=lb"}, tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestNamespaceMustComeFromSomewhere(t *testing.T) {
	_, err := parse(t, nil)
	if err == nil || !strings.Contains(err.Error(), "--namespace is empty") {
		t.Errorf("got error %v, want one that names --namespace", err)
	}
}

func TestIgnoredFlagsAreAcceptedAndNamed(t *testing.T) {
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	given := IgnoreFlags(fs, []Ignored{
		{Name: "host", Why: "deprecated"},
		{Name: "webhook-http2", Bool: true, Why: "there is no webhook"},
		{Name: "webhook-mode", Why: "there is no webhook"},
	})
	if err := fs.Parse([]string{"--webhook-mode", "enabled", "--webhook-http2", "rest"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"webhook-http2", "webhook-mode"}, given()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"rest"}, fs.Args()); diff != "" {
		t.Errorf("arguments (-want +got)\n%s", diff)
	}
}

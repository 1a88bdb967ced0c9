package manager

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// reviewServer is an API server that knows one token, "prom", whose user may do
// anything.
func reviewServer(t *testing.T) *rest.Config {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch req.URL.Path {
		case "/apis/authentication.k8s.io/v1/tokenreviews":
			var review authenticationv1.TokenReview
			if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			review.Status.Authenticated = review.Spec.Token == "prom"
			_ = json.NewEncoder(w).Encode(review)
		case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
			_ = json.NewEncoder(w).Encode(authorizationv1.SubjectAccessReview{
				TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
				Status:   authorizationv1.SubjectAccessReviewStatus{Allowed: true},
			})
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(srv.Close)
	// JSON, because this server does not speak protobuf.
	return &rest.Config{Host: srv.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

// freeAddress returns a loopback address that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a manager until the test ends, and checks that it ends cleanly.
func start(t *testing.T, o Options) {
	t.Helper()
	mgr, err := New(slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the manager ended with: %v", err)
		}
	})
}

// fetch asks until somebody answers, for at most ten seconds.
func fetch(t *testing.T, client *http.Client, url, token string) (int, string, *tls.ConnectionState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := client.Do(req)
		if err != nil {
			select {
			case <-ctx.Done():
				t.Fatalf("GET %s: %v", url, err)
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body), res.TLS
	}
}

// scraper is a client that trusts every certificate, as Prometheus does with
// insecure_skip_verify, and never reuses a connection.
func scraper() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
}

func TestServers(t *testing.T) {
	metrics, probes, pprof := freeAddress(t), freeAddress(t), freeAddress(t)
	var ready atomic.Bool
	start(t, Options{
		Name: "speaker", Namespace: "lb", Config: reviewServer(t),
		MetricsAddress: metrics, ProbeAddress: probes, PprofAddress: pprof,
		Ready: map[string]func() error{"config": func() error {
			if !ready.Load() {
				return errors.New("no configuration yet")
			}
			return nil
		}},
	})

	for _, tt := range []struct {
		name, url, token string
		want             int
		contains         string
	}{
		{name: "alive from the start", url: "http://" + probes + "/healthz", want: http.StatusOK},
		{name: "not ready before the caller says so", url: "http://" + probes + "/readyz", want: http.StatusInternalServerError, contains: "config"},
		{name: "metrics are closed to strangers", url: "https://" + metrics + "/metrics", want: http.StatusUnauthorized},
		{name: "metrics are closed to unknown tokens", url: "https://" + metrics + "/metrics", token: "guess", want: http.StatusUnauthorized},
		{name: "metrics are open to those who may", url: "https://" + metrics + "/metrics", token: "prom", want: http.StatusOK, contains: "rest_client_requests_total"},
		{name: "pprof listens where it was told", url: "http://" + pprof + "/debug/pprof/cmdline", want: http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body, _ := fetch(t, scraper(), tt.url, tt.token)
			if status != tt.want || !strings.Contains(body, tt.contains) {
				t.Errorf("status %d, want %d with %q in:\n%s", status, tt.want, tt.contains, body)
			}
		})
	}

	ready.Store(true)
	if status, body, _ := fetch(t, scraper(), "http://"+probes+"/readyz", ""); status != http.StatusOK {
		t.Errorf("status %d after the caller became ready:\n%s", status, body)
	}
}

func TestMetricsTLSPolicyIsKept(t *testing.T) {
	metrics := freeAddress(t)
	start(t, Options{Name: "controller", Namespace: "lb", Config: reviewServer(t), MetricsAddress: metrics})
	_, _, state := fetch(t, scraper(), "https://"+metrics+"/metrics", "prom")
	if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol == "h2" {
		t.Errorf("got TLS version %x and protocol %q", state.Version, state.NegotiatedProtocol)
	}
	old := scraper()
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	res, err := old.Get("https://" + metrics + "/metrics")
	if err == nil {
		res.Body.Close()
		t.Error("a client with TLS 1.2 was served")
	}
}

// writeCert puts a fresh certificate for name into dir.
func writeCert(t *testing.T, dir, name string) {
	t.Helper()
	cert, err := selfSigned(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		"tls.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		// Replaced by renaming, as the kubelet does with a Secret.
		temporary := filepath.Join(dir, "."+file)
		if err := os.WriteFile(temporary, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMetricsCertificateIsReadAgainWhenItChanges(t *testing.T) {
	dir, metrics := t.TempDir(), freeAddress(t)
	writeCert(t, dir, "first")
	start(t, Options{Name: "controller", Namespace: "lb", Config: reviewServer(t), MetricsAddress: metrics, MetricsCertDir: dir})

	served := func() string {
		_, _, state := fetch(t, scraper(), "https://"+metrics+"/metrics", "prom")
		return state.PeerCertificates[0].Subject.CommonName
	}
	if got := served(); got != "first" {
		t.Fatalf("certificate of %q, want first", got)
	}
	writeCert(t, dir, "second")
	for deadline := time.Now().Add(30 * time.Second); served() != "second"; {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not served")
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"no namespace", Options{Name: "speaker"}, "namespace are mandatory"},
		{"a kubeconfig that is not there", Options{Name: "speaker", Namespace: "lb", Kubeconfig: "/nonexistent/config"}, `kubeconfig "/nonexistent/config"`},
		{"a TLS policy that contradicts itself", Options{
			Name: "speaker", Namespace: "lb", Config: &rest.Config{Host: "http://127.0.0.1:1"}, MetricsAddress: "127.0.0.1:0",
			TLS: TLS{MinVersion: "VersionTLS11"},
		}, "--tls-min-version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(slog.New(slog.DiscardHandler), tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestRequestsAreNotPacedHere(t *testing.T) {
	given := &rest.Config{Host: "http://127.0.0.1:1"}
	cfg, err := restConfig(Options{Name: "speaker", Config: given})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.QPS >= 0 || !strings.HasPrefix(cfg.UserAgent, "herald-speaker/") {
		t.Errorf("QPS %v, user agent %q", cfg.QPS, cfg.UserAgent)
	}
	if given.QPS != 0 || given.UserAgent != "" {
		t.Error("the caller's configuration was changed")
	}
}

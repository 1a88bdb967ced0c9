package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/lab/agent/sandbox"
)

// serveAPI serves what kubectl logs and kubectl exec need, on the node's
// addresses, by virtual-kubelet's handlers.
func (a *Agent) serveAPI(ctx context.Context) error {
	tlsConfig, err := servingConfig(a.cfg)
	if err != nil {
		return err
	}
	handler := api.PodHandler(api.PodHandlerConfig{
		RunInContainer:   a.execInContainer,
		GetContainerLogs: a.containerLogs,
		GetPods:          a.podList, GetPodsFromKubernetes: a.podList,
		StreamIdleTimeout: time.Hour, StreamCreationTimeout: 30 * time.Second,
	}, false)
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 30 * time.Second}
	addr := ":" + strconv.Itoa(a.cfg.Port)
	l, err := tls.Listen("tcp", addr, tlsConfig)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func servingConfig(cfg Config) (*tls.Config, error) {
	var cert tls.Certificate
	var err error
	if cfg.TLSCert == "" {
		cert, err = selfSigned(cfg)
	} else {
		cert, err = tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	}
	if err != nil {
		return nil, fmt.Errorf("load the serving certificate: %w", err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{cert}}
	if cfg.ClientCA == "" {
		return out, nil
	}
	pem, err := os.ReadFile(cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read the client authority: %w", err)
	}
	out.ClientCAs, out.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client authority %s: expected a PEM certificate", cfg.ClientCA)
	}
	return out, nil
}

// selfSigned is a certificate that nobody verifies: an API server without
// --kubelet-certificate-authority takes any.
func selfSigned(cfg Config) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cfg.Name}, DNSNames: []string{cfg.Name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour)}
	for _, ip := range cfg.NodeIPs {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func (a *Agent) podList(context.Context) ([]*corev1.Pod, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*corev1.Pod
	for _, w := range a.workers {
		out = append(out, w.latest())
	}
	return out, nil
}

// findContainer finds a container by the names that kubectl uses.
func (a *Agent) findContainer(namespace, pod, name string) (*container, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if p := w.latest(); p.Namespace != namespace || p.Name != pod {
			continue
		}
		for _, list := range [][]*container{w.mains, w.inits} {
			for _, c := range list {
				if c.name == name {
					return c, nil
				}
			}
		}
	}
	return nil, errdefs.NotFoundf("container %s of pod %s/%s does not run on node %s", name, namespace, pod, a.cfg.Name)
}

func (a *Agent) execInContainer(ctx context.Context, namespace, pod, name string, argv []string, attach api.AttachIO) error {
	c, err := a.findContainer(namespace, pod, name)
	if err != nil {
		return err
	}
	c.mu.Lock()
	p, spec := c.process, c.spec
	c.mu.Unlock()
	if p == nil {
		return errdefs.NotFoundf("container %s of pod %s/%s is not running", name, namespace, pod)
	}
	if attach.TTY() {
		return errors.New("the lab's node agent has no terminals: use kubectl exec without -t")
	}
	o := sandbox.ExecOptions{Identity: spec.Identity, Argv: argv, Env: spec.Env, Cwd: spec.Cwd}
	// Only streams that were asked for: a nil one in an interface is not nil.
	if in := attach.Stdin(); in != nil {
		o.Stdin = in
	}
	if out := attach.Stdout(); out != nil {
		defer out.Close()
		o.Stdout = out
	}
	if out := attach.Stderr(); out != nil {
		defer out.Close()
		o.Stderr = out
	}
	code, err := a.spawner.Exec(ctx, p, o)
	if err != nil {
		return err
	}
	if code != 0 {
		return exitStatus(code)
	}
	return nil
}

// exitStatus carries a command's status to kubectl, which exits with it.
type exitStatus int

func (e exitStatus) Error() string   { return fmt.Sprintf("command exited with status %d", int(e)) }
func (e exitStatus) String() string  { return e.Error() }
func (e exitStatus) Exited() bool    { return true }
func (e exitStatus) ExitStatus() int { return int(e) }

func (a *Agent) containerLogs(ctx context.Context, namespace, pod, name string, opts api.ContainerLogOpts) (io.ReadCloser, error) {
	c, err := a.findContainer(namespace, pod, name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(a.logPath(namespace, pod, name))
	if err != nil {
		return nil, errdefs.NotFoundf("container %s has written no log yet", name)
	}
	c.mu.Lock()
	from, until := c.logFrom, int64(-1)
	if opts.Previous {
		from, until = c.logPrev, c.logFrom
	}
	c.mu.Unlock()
	if opts.Tail > 0 {
		if from, err = tailOffset(f, from, opts.Tail); err != nil {
			f.Close()
			return nil, err
		}
	}
	r := &logReader{ctx: ctx, c: c, f: f, at: from, until: until, follow: opts.Follow && !opts.Previous}
	if opts.LimitBytes > 0 {
		r.until = from + int64(opts.LimitBytes)
	}
	return r, nil
}

// tailOffset is where the last n lines after from begin.
func tailOffset(f *os.File, from int64, n int) (int64, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, from, maxLog))
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	for i := len(b) - 2; i >= 0; i-- {
		if b[i] == '\n' {
			if n--; n == 0 {
				return from + int64(i) + 1, nil
			}
		}
	}
	return from, nil
}

// followPeriod is how often a followed log is looked at.
const followPeriod = 100 * time.Millisecond

// logReader reads a log from an offset, and waits for more when it follows one
// whose container runs.
type logReader struct {
	ctx    context.Context
	c      *container
	f      *os.File
	at     int64
	until  int64 // -1: to the end
	follow bool
}

func (r *logReader) Close() error { return r.f.Close() }

func (r *logReader) Read(b []byte) (int, error) {
	for {
		if r.until >= 0 {
			if r.at >= r.until {
				return 0, io.EOF
			}
			b = b[:min(int64(len(b)), r.until-r.at)]
		}
		r.c.mu.Lock()
		running := r.c.process != nil
		r.c.mu.Unlock()
		n, err := r.f.ReadAt(b, r.at)
		r.at += int64(n)
		if n > 0 {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			return 0, err
		}
		if !r.follow || !running || !sleep(r.ctx, followPeriod) {
			return 0, io.EOF
		}
	}
}

// Package controlplane starts the programs that make a Kubernetes control plane:
// etcd and kube-apiserver, and, where nodes exist, kube-controller-manager and
// kube-scheduler.
//
// It knows their flags and the identities they need. It does not know whether it
// runs in a namespace of a lab or on the loopback address of the machine; both
// use it.
package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab/pki"
	"github.com/heraldlb/herald/e2etest/lab/process"
)

// NodeGroup is the group of the node agents' certificates. It gets what the
// system:node role allows, see Bootstrap.
const NodeGroup = "herald-lab:nodes"

// Config says how a control plane is to run.
type Config struct {
	Kube   string // the multi-call binary
	Dir    string // for data and keys
	LogDir string
	Place  process.Place

	Bind      netip.Addr     // where the API server listens
	Advertise netip.AddrPort // the address clients use, and the port it listens on
	EtcdPort  uint16         // both on 127.0.0.1
	EtcdPeer  uint16
	Names     []netip.Addr // further addresses for the API server's certificate

	ServiceCIDRs []netip.Prefix
	PodCIDRs     []netip.Prefix

	// Controllers says whether to run the controller manager and the scheduler.
	Controllers bool
	ExtraArgs   map[string][]string
}

// ControlPlane is a control plane's keys and programs.
type ControlPlane struct {
	cfg       Config
	Authority *pki.Authority
	Admin     pki.Pair
	etcd      *process.Process
	api       *process.Process
	rest      []*process.Process
}

// New makes the keys and describes the programs; nothing runs yet.
func New(cfg Config) (*ControlPlane, error) {
	ca, err := pki.New(filepath.Join(cfg.Dir, "pki"))
	if err != nil {
		return nil, err
	}
	cp := &ControlPlane{cfg: cfg, Authority: ca}
	if cp.Admin, err = ca.Client("admin", "herald-lab-admin", "system:masters"); err != nil {
		return nil, err
	}
	saKey, err := ca.ServiceAccountKey()
	if err != nil {
		return nil, err
	}
	cp.etcd = cp.program("etcd", cp.etcdArgs())
	args, err := cp.apiServerArgs(saKey)
	if err != nil {
		return nil, err
	}
	cp.api = cp.program("kube-apiserver", args)
	if !cfg.Controllers {
		return cp, nil
	}
	for name, args := range map[string]func(kubeconfig string) []string{
		"kube-controller-manager": func(kc string) []string { return cp.controllerArgs(kc, saKey) },
		"kube-scheduler":          schedulerArgs,
	} {
		kubeconfig, err := cp.kubeconfigFor(name)
		if err != nil {
			return nil, err
		}
		cp.rest = append(cp.rest, cp.program(name, args(kubeconfig)))
	}
	return cp, nil
}

// Start starts etcd and the API server, waits until the API server is ready, and
// then starts the rest.
func (cp *ControlPlane) Start(ctx context.Context) error {
	for _, p := range []*process.Process{cp.etcd, cp.api} {
		if err := p.Start(); err != nil {
			return err
		}
	}
	if err := cp.WaitReady(ctx); err != nil {
		return err
	}
	for _, p := range cp.rest {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Stop kills everything at once; nothing in a lab is worth a graceful end.
func (cp *ControlPlane) Stop() {
	for _, p := range append(cp.rest, cp.api, cp.etcd) {
		p.Stop(0)
	}
}

// Program finds a program of the control plane by name.
func (cp *ControlPlane) Program(name string) (*process.Process, error) {
	all := append([]*process.Process{cp.etcd, cp.api}, cp.rest...)
	var names []string
	for _, p := range all {
		if p.Name() == name {
			return p, nil
		}
		names = append(names, p.Name())
	}
	return nil, fmt.Errorf("no program %q in the control plane, want one of %s", name, strings.Join(names, ", "))
}

// URL is the API server's address for clients.
func (cp *ControlPlane) URL() string { return "https://" + cp.cfg.Advertise.String() }

// WaitReady waits until the API server says that it is ready.
func (cp *ControlPlane) WaitReady(ctx context.Context) error {
	client, err := cp.httpClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	var last error
	for {
		if last = ready(ctx, client, cp.URL()+"/readyz"); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server does not become ready: %w; its log ends with:\n%s",
				errors.Join(ctx.Err(), last), cp.api.Tail(2000))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func ready(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return nil
}

// httpClient talks to the API server as the administrator, from the place where
// the API server runs.
func (cp *ControlPlane) httpClient() (*http.Client, error) {
	cert, err := tls.X509KeyPair(cp.Admin.Cert, cp.Admin.Key)
	if err != nil {
		return nil, fmt.Errorf("load the administrator's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cp.Authority.PEM())
	return &http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots},
			DialContext:     cp.Dial,
		},
	}, nil
}

// Dial connects to an address from the place where the control plane runs.
func (cp *ControlPlane) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := cp.cfg.Place.Do(func() (err error) {
		// An address and not a name, so that the dialer opens its socket right
		// here, on the thread that is inside the namespace.
		conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// program describes a program of the multi-call binary.
func (cp *ControlPlane) program(name string, args []string) *process.Process {
	return process.New(cp.cfg.Place, process.Spec{
		Name: name,
		Path: cp.cfg.Kube,
		Args: append(args, cp.cfg.ExtraArgs[name]...),
		Log:  filepath.Join(cp.cfg.LogDir, name+".log"),
	})
}

// kubeconfigFor writes the identity of a control plane program.
func (cp *ControlPlane) kubeconfigFor(name string) (string, error) {
	pair, err := cp.Authority.Client(name, "system:"+name)
	if err != nil {
		return "", err
	}
	path := filepath.Join(cp.cfg.Dir, "pki", name+".kubeconfig")
	return path, cp.Authority.Kubeconfig(path, cp.URL(), pair)
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/heraldlb/herald/e2etest/lab/controlplane"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// ControlPlaneOptions says what control plane to make.
type ControlPlaneOptions struct {
	// BinDir holds the binary kube; default as for Options.
	BinDir string
	// LogDir is where the logs go; default: a folder that ends with the control
	// plane.
	LogDir string
	// Families of the Services, default DualStack.
	Families Families
	// ExtraArgs adds flags to "etcd" and "kube-apiserver".
	ExtraArgs map[string][]string
}

// ControlPlane is etcd and kube-apiserver on the loopback address: enough to test
// schemas, validation, status and controllers against, and not more. It needs no
// root, has no nodes and runs no controllers. It dies with its program.
type ControlPlane struct {
	// Kubeconfig is the administrator's.
	Kubeconfig string

	dir   string
	place *nsnet.Namespace
	cp    *controlplane.ControlPlane
}

// apiStartTimeout bounds the start of a control plane.
const apiStartTimeout = time.Minute

// UpControlPlane makes a control plane without a cluster and returns when the API
// server is ready, in about 3 s. Any number can run side by side.
func UpControlPlane(ctx context.Context, o ControlPlaneOptions) (_ *ControlPlane, err error) {
	if o.BinDir == "" {
		if o.BinDir, err = FindBin(); err != nil {
			return nil, err
		}
	}
	o.Families = or(o.Families, DualStack)
	c := &ControlPlane{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Down())
		}
	}()
	if c.dir, err = apiDir(); err != nil {
		return nil, err
	}
	if c.place, err = nsnet.Current(); err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	l, err := plan(Options{Name: "api", Families: o.Families, Segments: []SegmentOptions{{}}})
	if err != nil {
		return nil, err
	}
	c.cp, err = controlplane.New(controlplane.Config{
		Kube: filepath.Join(o.BinDir, "kube"), Dir: c.dir, LogDir: or(o.LogDir, filepath.Join(c.dir, "logs")), Place: c.place,
		Bind: loopback, Advertise: netip.AddrPortFrom(loopback, ports[0]), EtcdPort: ports[1], EtcdPeer: ports[2],
		ServiceCIDRs: l.ServiceCIDRs, ExtraArgs: o.ExtraArgs,
	})
	if err != nil {
		return nil, err
	}
	c.Kubeconfig = filepath.Join(c.dir, "kubeconfig")
	if err := c.cp.Authority.Kubeconfig(c.Kubeconfig, c.cp.URL(), c.cp.Admin); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiStartTimeout)
	defer cancel()
	return c, c.cp.Start(ctx)
}

// apiDir makes the folder of a control plane. Its name says which process it
// belongs to, so that this can first remove the folders of processes that crashed.
func apiDir() (string, error) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "herald-api-*-*-*"))
	if err != nil {
		return "", fmt.Errorf("look for folders of crashed control planes: %w", err)
	}
	for _, dir := range dirs {
		var pid int
		var start, rest uint64
		n, _ := fmt.Sscanf(filepath.Base(dir), "herald-api-%d-%d-%d", &pid, &start, &rest)
		if n != 3 || nsnet.StartTime(pid) == start {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return "", fmt.Errorf("remove the folder of a crashed control plane: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("herald-api-%d-%d-*", os.Getpid(), nsnet.StartTime(os.Getpid())))
	if err != nil {
		return "", fmt.Errorf("make the control plane's folder: %w", err)
	}
	return dir, nil
}

// freePorts finds ports of the loopback address that nobody uses. They are held
// together until all are found, so that they differ.
func freePorts(n int) ([]uint16, error) {
	var ports []uint16
	for range n {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	return ports, nil
}

// RESTConfig is the administrator's access.
func (c *ControlPlane) RESTConfig() (*rest.Config, error) { return restConfig(c.Kubeconfig) }

// Client is a client with the administrator's rights.
func (c *ControlPlane) Client() (kubernetes.Interface, error) {
	cfg, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(cfg)
}

// StopAPIServer takes the API server away; its data stays.
func (c *ControlPlane) StopAPIServer() error {
	p, err := c.cp.Program("kube-apiserver")
	if err != nil {
		return err
	}
	p.Stop(0)
	return nil
}

// StartAPIServer brings it back, at the same address, and returns when it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	p, err := c.cp.Program("kube-apiserver")
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	return c.cp.WaitReady(ctx)
}

// Down ends the control plane and removes its folder.
func (c *ControlPlane) Down() error {
	if c.cp != nil {
		c.cp.Stop()
	}
	if c.place != nil {
		c.place.Close()
	}
	if c.dir == "" {
		return nil
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove the control plane's folder: %w", err)
	}
	return nil
}

package controlplane

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// etcdArgs: one member on the loopback address. It does not sync to disk: a lab
// that loses power is gone anyway, and it starts and runs much faster.
func (cp *ControlPlane) etcdArgs() []string {
	client := fmt.Sprintf("http://127.0.0.1:%d", cp.cfg.EtcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", cp.cfg.EtcdPeer)
	return []string{
		"--name=lab",
		"--data-dir=" + filepath.Join(cp.cfg.Dir, "etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=lab=" + peer,
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

// apiServerArgs: RBAC decides, with the admission plugins that are on by default
// (PodSecurity among them).
func (cp *ControlPlane) apiServerArgs(saKey string) ([]string, error) {
	cfg := cp.cfg
	ips := append([]netip.Addr{cfg.Advertise.Addr(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}, cfg.Names...)
	for _, cidr := range cfg.ServiceCIDRs {
		ips = append(ips, cidr.Masked().Addr().Next()) // the kubernetes Service itself
	}
	serving, err := cp.Authority.Server("apiserver", []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, ips)
	if err != nil {
		return nil, err
	}
	kubelet, err := cp.Authority.Client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return nil, err
	}
	return []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", cfg.EtcdPort),
		"--bind-address=" + cfg.Bind.String(),
		fmt.Sprintf("--secure-port=%d", cfg.Advertise.Port()),
		"--advertise-address=" + cfg.Advertise.Addr().String(),
		"--tls-cert-file=" + serving.CertFile,
		"--tls-private-key-file=" + serving.KeyFile,
		"--client-ca-file=" + cp.Authority.File(),
		"--kubelet-certificate-authority=" + cp.Authority.File(),
		"--kubelet-client-certificate=" + kubelet.CertFile,
		"--kubelet-client-key=" + kubelet.KeyFile,
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + saKey,
		"--service-account-signing-key-file=" + saKey,
		"--service-cluster-ip-range=" + join(cfg.ServiceCIDRs),
		"--endpoint-reconciler-type=" + reconciler(cfg.Advertise.Addr()),
		"--authorization-mode=Node,RBAC",
		// Nobody uses the header authentication, but the other programs ask for its
		// settings every few seconds until they exist.
		"--requestheader-client-ca-file=" + cp.Authority.File(),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--allow-privileged=true",
	}, nil
}

// controllerArgs: all default controllers, each with its own service account. The
// limits on requests are off the defaults, which would spread the endpoints of a
// few thousand Services over minutes and measure the controller manager instead
// of Herald.
func (cp *ControlPlane) controllerArgs(kubeconfig, saKey string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + saKey,
		"--root-ca-file=" + cp.Authority.File(),
		"--cluster-cidr=" + join(cp.cfg.PodCIDRs),
		"--service-cluster-ip-range=" + join(cp.cfg.ServiceCIDRs),
		"--allocate-node-cidrs=false", // the lab's plan fixes each node's
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--concurrent-service-endpoint-syncs=10",
	}
}

func schedulerArgs(kubeconfig string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
}

// reconciler says who keeps the endpoints of the kubernetes Service. A loopback
// address may not stand in endpoints, and without nodes nobody uses them.
func reconciler(advertise netip.Addr) string {
	if advertise.IsLoopback() {
		return "none"
	}
	return "lease"
}

func join(cidrs []netip.Prefix) string {
	var s []string
	for _, c := range cidrs {
		s = append(s, c.String())
	}
	return strings.Join(s, ",")
}

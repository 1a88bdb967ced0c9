package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/lab/agent/sandbox"
)

// MaybeInit must be the first call of main. It returns at once, except in the
// process that is to become a container's; see package sandbox.
func MaybeInit() { sandbox.MaybeInit() }

// Main is the command "lab agent": it reads the flags, enters the node's network
// namespace, and runs the agent until ctx ends.
func Main(ctx context.Context, args []string) error {
	cfg, netns, err := parseFlags(args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if err := enter(netns); err != nil {
		return err
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	return Run(ctx, cfg)
}

func parseFlags(args []string) (cfg Config, netns string, err error) {
	fs := flag.NewFlagSet("lab agent", flag.ContinueOnError)
	fs.StringVar(&cfg.Name, "name", "", "the node's name")
	fs.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "file with the node's access to the API server")
	cidr4 := fs.String("pod-cidr4", "", "IPv4 prefix of the node's pods")
	cidr6 := fs.String("pod-cidr6", "", "IPv6 prefix of the node's pods")
	ips := fs.String("node-ip", "", "the node's address, or two with a comma; the first family is the primary one")
	fs.StringVar(&cfg.ImagesFile, "images", "", "JSON file that maps image names to binaries")
	fs.StringVar(&cfg.StateDir, "state-dir", "", "directory for logs, pid files and volumes")
	fs.StringVar(&netns, "netns", "", "name of the node's network namespace; empty: the present one")
	labels := fs.String("labels", "", "labels of the node, key=value with commas")
	dns := fs.String("cluster-dns", "", "name servers of the pods, with commas")
	fs.IntVar(&cfg.LeaseSeconds, "lease-seconds", 40, "life of the node's Lease, which is renewed four times in it")
	fs.IntVar(&cfg.Port, "port", 10250, "port for kubectl logs and exec")
	fs.StringVar(&cfg.TLSCert, "tls-cert", "", "certificate for that port; empty: one that nobody knows")
	fs.StringVar(&cfg.TLSKey, "tls-key", "", "key of that certificate")
	fs.StringVar(&cfg.ClientCA, "client-ca", "", "authority that a client of that port must be signed by; empty: anybody is served")
	if err := fs.Parse(args); err != nil {
		return cfg, "", err
	}
	if cfg.NodeIPs, err = parseAddrs("node-ip", *ips); err != nil {
		return cfg, "", err
	}
	if cfg.ClusterDNS, err = parseAddrs("cluster-dns", *dns); err != nil {
		return cfg, "", err
	}
	for flag, s := range map[string]string{"pod-cidr4": *cidr4, "pod-cidr6": *cidr6} {
		if s == "" {
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4() != (flag == "pod-cidr4") {
			return cfg, "", fmt.Errorf("-%s %q: expected a prefix of this family", flag, s)
		}
		cfg.PodCIDRs = append(cfg.PodCIDRs, p)
	}
	sortLikeNode(cfg.PodCIDRs, cfg.NodeIPs)
	if cfg.Labels, err = parseLabels(*labels); err != nil {
		return cfg, "", err
	}
	return cfg, netns, nil
}

// sortLikeNode puts the family of the node's first address first.
func sortLikeNode(cidrs []netip.Prefix, ips []netip.Addr) {
	if len(cidrs) == 2 && len(ips) > 0 && cidrs[0].Addr().Is4() != ips[0].Is4() {
		cidrs[0], cidrs[1] = cidrs[1], cidrs[0]
	}
}

func parseAddrs(flag, list string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("-%s %q: expected an IP address", flag, s)
		}
		out = append(out, a)
	}
	return out, nil
}

func parseLabels(list string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("-labels %q: expected key=value", s)
		}
		out[k] = v
	}
	return out, nil
}

// enter moves the whole process into a named network namespace. A namespace
// belongs to a thread, so this thread joins it and executes the program again,
// which replaces all threads by this one.
func enter(name string) error {
	if name == "" {
		return nil
	}
	path := "/run/netns/" + name
	var want, have unix.Stat_t
	if err := unix.Stat(path, &want); err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	if err := unix.Stat("/proc/self/ns/net", &have); err != nil {
		return fmt.Errorf("look at the present network namespace: %w", err)
	}
	if want.Ino == have.Ino && want.Dev == have.Dev {
		return nil
	}
	runtime.LockOSThread()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	return fmt.Errorf("run again in network namespace %s: %w", name, syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
}

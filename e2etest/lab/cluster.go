package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/heraldlb/herald/e2etest/lab/nsnet"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// RESTConfig is the administrator's access to the API server. It has no limit on
// requests of its own worth mentioning: tests make objects by the thousand.
func (c *Cluster) RESTConfig() (*rest.Config, error) { return restConfig(c.State.Kubeconfig) }

func restConfig(kubeconfig string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the lab's kubeconfig: %w", err)
	}
	cfg.QPS, cfg.Burst = 1000, 2000
	return cfg, nil
}

// Client is a client of the API server with the administrator's rights.
func (c *Cluster) Client() (kubernetes.Interface, error) {
	cfg, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(cfg)
}

// Kubectl runs kubectl as the administrator and returns what it prints.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, nil, args...)
}

// Apply applies YAML with kubectl.
func (c *Cluster) Apply(ctx context.Context, yaml string) error {
	_, err := c.kubectl(ctx, strings.NewReader(yaml), "apply", "-f", "-")
	return err
}

func (c *Cluster) kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := c.KubectlCommand(ctx, args...)
	cmd.Stdin = stdin
	out, err := output(cmd)
	if err != nil {
		return out, fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// KubectlCommand is kubectl as the administrator, ready to be run.
func (c *Cluster) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.State.Options.BinDir, "kube"), args...)
	cmd.Args[0] = "kubectl"
	cmd.Env = append(cmd.Environ(), "KUBECONFIG="+c.State.Kubeconfig)
	return cmd
}

// Exec runs a program on a host and returns what it prints.
func (c *Cluster) Exec(ctx context.Context, host string, argv ...string) (string, error) {
	var out string
	err := c.run(ctx, host, argv, func(cmd *exec.Cmd) (wait func() error, err error) {
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return func() error {
			err := withStderr(cmd.Wait(), &stderr)
			out = stdout.String()
			return err
		}, nil
	})
	return out, err
}

// ExecTo runs a program on a host with the given standard streams.
func (c *Cluster) ExecTo(ctx context.Context, host string, stdin io.Reader, stdout, stderr io.Writer, argv ...string) error {
	return c.run(ctx, host, argv, func(cmd *exec.Cmd) (func() error, error) {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
		return cmd.Wait, cmd.Start()
	})
}

// run starts a program inside a host's namespace and waits for it. It dies with
// this program.
func (c *Cluster) run(ctx context.Context, host string, argv []string, start func(*exec.Cmd) (func() error, error)) error {
	if len(argv) == 0 {
		return errors.New("nothing to run")
	}
	h, err := c.State.Layout.Host(host)
	if err != nil {
		return err
	}
	ns, err := nsnet.Open(h.Namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	cmd := c.command(ctx, h, argv)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var wait func() error
	err = ns.Do(func() (err error) {
		wait, err = start(cmd)
		return err
	})
	if err == nil {
		err = wait()
	}
	if err != nil {
		return fmt.Errorf("on %s: %s: %w", h.Name, strings.Join(argv, " "), err)
	}
	return nil
}

// command is a program as a host knows it: a router has vtysh or birdc that talk
// to its own daemons.
func (c *Cluster) command(ctx context.Context, h Host, argv []string) *exec.Cmd {
	bin := filepath.Join(RouterDir(c.State.Options.StateDir, h.Name), "bin")
	path := argv[0]
	if own := filepath.Join(bin, path); !strings.Contains(path, "/") && isFile(own) {
		path = own
	}
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	if _, err := c.State.Layout.Router(h.Name); err == nil {
		cmd.Env = append(cmd.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	}
	return cmd
}

// output runs a command and returns its stdout; an error carries its stderr.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := withStderr(cmd.Run(), &stderr)
	return stdout.String(), err
}

func withStderr(err error, stderr *bytes.Buffer) error {
	if err == nil || stderr.Len() == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
}

// Fault asks the supervisor for a fault, or for its end, by the verbs that
// "lab fault" has.
func (c *Cluster) Fault(ctx context.Context, verb string, args ...string) (string, error) {
	return ask(ctx, c.State.Options.Name, Request{Verb: verb, Args: args})
}

// PowerOff takes a node's power: its links are cut and its processes frozen.
func (c *Cluster) PowerOff(ctx context.Context, node string) error {
	return c.fault(ctx, "power-off", node)
}

// PowerOn boots a node that was powered off and returns when it is Ready.
func (c *Cluster) PowerOn(ctx context.Context, node string) error {
	return c.fault(ctx, "power-on", node)
}

// Partition cuts the hosts off from all others on every segment.
func (c *Cluster) Partition(ctx context.Context, hosts ...string) error {
	return c.fault(ctx, "partition", hosts...)
}

// Heal ends a partition.
func (c *Cluster) Heal(ctx context.Context) error { return c.fault(ctx, "heal") }

// LinkDown pulls a host's cables, or only that of one interface.
func (c *Cluster) LinkDown(ctx context.Context, host string, iface ...string) error {
	return c.fault(ctx, "link-down", append([]string{host}, iface...)...)
}

// LinkUp plugs them in again.
func (c *Cluster) LinkUp(ctx context.Context, host string, iface ...string) error {
	return c.fault(ctx, "link-up", append([]string{host}, iface...)...)
}

// Kill sends SIGKILL to a program on a host; who started it starts it again.
func (c *Cluster) Kill(ctx context.Context, host, program string) error {
	return c.fault(ctx, "kill", host, program)
}

// StopProgram stops a program of a host for good: "agent" or "kube-proxy" of a
// node; "kube-apiserver", "etcd" and so on of "cp".
func (c *Cluster) StopProgram(ctx context.Context, host, program string) error {
	return c.fault(ctx, "stop", host, program)
}

// StartProgram starts what StopProgram stopped. An API server is ready then.
func (c *Cluster) StartProgram(ctx context.Context, host, program string) error {
	return c.fault(ctx, "start", host, program)
}

func (c *Cluster) fault(ctx context.Context, verb string, args ...string) error {
	_, err := c.Fault(ctx, verb, args...)
	return err
}

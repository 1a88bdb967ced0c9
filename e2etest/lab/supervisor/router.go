package supervisor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/process"
)

// router is one router of the lab: a machine and its routing daemons.
type router struct {
	machine
	plan lab.Router
	dir  string // its files, lab.RouterDir
}

// routing are the settings of routers: flows, not packets, are spread over the
// next hops, by addresses, protocol and ports. That is what the policy 1 says too,
// but with it the kernel saves itself the work and takes the hash that the
// client's socket chose, which a wire between namespaces carries along: the same
// for every router on the way, and another one after a retransmission.
var routing = map[string]string{
	"net.ipv4.fib_multipath_hash_policy": "3",
	"net.ipv6.fib_multipath_hash_policy": "3",
	"net.ipv4.fib_multipath_hash_fields": hashFields,
	"net.ipv6.fib_multipath_hash_fields": hashFields,
	// A router whose link is down must not pretend that its routes are good.
	"net.ipv4.conf.all.ignore_routes_with_linkdown":     "1",
	"net.ipv4.conf.default.ignore_routes_with_linkdown": "1",
	"net.ipv6.conf.all.ignore_routes_with_linkdown":     "1",
	"net.ipv6.conf.default.ignore_routes_with_linkdown": "1",
}

// hashFields are source and destination, protocol, and both ports (ip-sysctl.rst
// of the kernel).
const hashFields = "0x0037"

// buildRouter makes a router's machine: wires, addresses, static routes.
func (s *Supervisor) buildRouter(r *router) (err error) {
	if r.net, err = newHost(r.host.Namespace, forwarding); err != nil {
		return err
	}
	if err := r.net.Sysctl(routing); err != nil {
		return err
	}
	if err := r.seed(); err != nil {
		return err
	}
	for _, i := range r.host.Interfaces {
		if err := wire(r.net, i, s.switchNet, s.state.Layout.Segments[i.Segment].Bridge); err != nil {
			return err
		}
	}
	for _, route := range r.plan.Routes {
		if err := r.net.Route(route.Dst, route.Via); err != nil {
			return err
		}
	}
	return nil
}

// seed gives the router's hash of flows a seed of its own. With the same in two
// routers, one after the other, the second gets only flows of which the first has
// seen one half of the hashes, and sends them all the same way. Kernels before
// 6.11 know only one seed for the machine; on them flows do polarise.
func (r *router) seed() error {
	const key = "net.ipv4.fib_multipath_hash_seed"
	err := r.net.Sysctl(map[string]string{key: fmt.Sprint(binary.BigEndian.Uint32(r.plan.ID.AsSlice()))})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// The daemons of FRR, in the order in which they depend on each other.
var frrDaemons = []string{"zebra", "bfdd", "bgpd"}

// frrLibexec is where Debian has FRR's daemons.
const frrLibexec = "/usr/lib/frr"

// enclose runs a daemon of FRR ("$@") as FRR's own user. FRR gives up root by
// itself, but the kernel then forgets that the daemon is to die with the lab; so
// root is given up first and that is said afterwards. The capabilities are those
// that the daemons ask for. And they leave files of their log in /var/tmp, which
// here is a folder of the router ("$0").
const enclose = `mount --bind "$0" /var/tmp && exec setpriv --reuid=frr --regid=frr --init-groups ` +
	`--inh-caps=-all,` + frrCaps + ` --ambient-caps=` + frrCaps + ` --pdeathsig=KILL -- "$@"`

const frrCaps = "+setgid,+setuid,+net_bind_service,+net_admin,+net_raw,+sys_admin"

// describeRouter writes a router's files and describes its daemons.
func (s *Supervisor) describeRouter(r *router) error {
	if err := os.MkdirAll(filepath.Join(r.dir, "bin"), 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", r.host.Name, err)
	}
	startup := lab.StartupConfig(r.dir)
	if _, err := os.Stat(startup); errors.Is(err, os.ErrNotExist) {
		text := s.state.Options.BGP.Routers[r.host.Name].Config
		if text == "" {
			text = lab.RouterText(s.state.Options.BGP, r.plan)
		}
		if err := os.WriteFile(startup, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the configuration of %s: %w", r.host.Name, err)
		}
	}
	if r.plan.Kind == lab.BIRD {
		return s.describeBIRD(r, startup)
	}
	return s.describeFRR(r)
}

func (s *Supervisor) describeBIRD(r *router, startup string) error {
	bird, err := lab.FindTool("bird", "bird2")
	if err != nil {
		return err
	}
	birdc, err := lab.FindTool("birdc", "bird2")
	if err != nil {
		return err
	}
	control := lab.BIRDControl(r.dir)
	if err := r.wrapper("birdc", birdc, "-s", control); err != nil {
		return err
	}
	if out, err := exec.Command(bird, "-p", "-c", startup).CombinedOutput(); err != nil {
		return fmt.Errorf("the configuration of %s is not sound: %w: %s", r.host.Name, err, bytes.TrimSpace(out))
	}
	r.programs = []*process.Process{process.New(r.net, process.Spec{
		Name: "bird", Path: bird, Args: []string{"-f", "-c", startup, "-s", control},
		Log: filepath.Join(s.state.Options.LogDir, r.host.Name+"-bird.log"),
	})}
	return nil
}

func (s *Supervisor) describeFRR(r *router) error {
	vtysh, err := lab.FindTool("vtysh", "frr")
	if err != nil {
		return err
	}
	private := filepath.Join(r.dir, "tmp")
	if err := os.MkdirAll(private, 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", r.host.Name, err)
	}
	// Each daemon keeps its own file, so that it comes back with what it had.
	if err := os.WriteFile(filepath.Join(r.dir, "vtysh.conf"), []byte("no service integrated-vtysh-config\n"), 0o644); err != nil {
		return fmt.Errorf("write the files of %s: %w", r.host.Name, err)
	}
	if err := r.wrapper("vtysh", vtysh, "--vty_socket", r.dir, "--config_dir", r.dir); err != nil {
		return err
	}
	r.programs = nil
	for _, d := range frrDaemons {
		path := filepath.Join(frrLibexec, d)
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%s is missing: install the Debian package frr: %w", d, err)
		}
		conf := filepath.Join(r.dir, d+".conf")
		if err := os.WriteFile(conf, nil, 0o640); err != nil {
			return fmt.Errorf("write the files of %s: %w", r.host.Name, err)
		}
		args := []string{"-m", "sh", "-c", enclose, private, path,
			"--vty_socket", r.dir, "--vty_port", "0", "--socket", filepath.Join(r.dir, "zserv.api"),
			"--pid_file", filepath.Join(r.dir, d+".pid"), "--config_file", conf, "--log", "stdout", "--log-level", "debugging"}
		if d == "bfdd" {
			args = append(args, "--bfdctl", filepath.Join(r.dir, "bfdd.sock"))
		}
		r.programs = append(r.programs, process.New(r.net, process.Spec{
			Name: d, Path: "unshare", Args: args,
			Log: filepath.Join(s.state.Options.LogDir, r.host.Name+"-"+d+".log"),
		}))
	}
	return giveToFRR(r.dir)
}

// giveToFRR makes FRR's user the owner of a router's files.
func giveToFRR(dir string) error {
	u, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("FRR's user is missing: install the Debian package frr: %w", err)
	}
	uid, _ := strconv.Atoi(u.Uid) // numbers on Linux, as package user says
	gid, _ := strconv.Atoi(u.Gid)
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	})
}

// wrapper writes a program of the router's own that talks to its daemons, so that
// "lab exec tor1 -- vtysh" is what a user of the router would type.
func (r *router) wrapper(name, path string, args ...string) error {
	text := "#!/bin/sh\nexec '" + path + "'"
	for _, a := range args {
		text += " '" + a + "'"
	}
	if err := os.WriteFile(filepath.Join(r.dir, "bin", name), []byte(text+" \"$@\"\n"), 0o755); err != nil {
		return fmt.Errorf("write %s of %s: %w", name, r.host.Name, err)
	}
	return nil
}

// bootRouter starts a router's daemons and returns when they have their
// configuration.
func (s *Supervisor) bootRouter(ctx context.Context, r *router) error {
	if err := s.describeRouter(r); err != nil {
		return err
	}
	// One after another, as FRR's own start script does: a daemon that finds no
	// zebra tries again after ten seconds only, and what bgpd wants watched before
	// bfdd is there is never watched.
	for _, p := range r.programs {
		if err := p.Start(); err != nil {
			return err
		}
		if err := r.waitReady(ctx, p); err != nil {
			return err
		}
	}
	if r.plan.Kind == lab.BIRD {
		return nil // it has read its file
	}
	if out, err := r.run(ctx, "vtysh", "-f", lab.StartupConfig(r.dir)); err != nil {
		return fmt.Errorf("configure %s: %w: %s", r.host.Name, err, out)
	}
	if out, err := r.run(ctx, "vtysh", "-c", "write"); err != nil {
		return fmt.Errorf("save the configuration of %s: %w: %s", r.host.Name, err, out)
	}
	return nil
}

// waitReady waits until a daemon of a router answers; those that stand on zebra
// must be its clients too.
func (r *router) waitReady(ctx context.Context, p *process.Process) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := r.ready(ctx, p.Name())
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s of %s does not answer: %w; its log ends with:\n%s", p.Name(), r.host.Name, err, p.Tail(2000))
		}
	}
}

func (r *router) ready(ctx context.Context, daemon string) error {
	argv := []string{"birdc", "show", "status"}
	if daemon != "bird" {
		argv = []string{"vtysh", "-d", daemon, "-c", "show version"}
	}
	if out, err := r.run(ctx, argv...); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	if daemon == "bird" || daemon == "zebra" {
		return nil
	}
	out, err := r.run(ctx, "vtysh", "-d", "zebra", "-c", "show zebra client summary")
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	if !bytes.Contains(out, []byte("\n"+strings.TrimSuffix(daemon, "d")+" ")) {
		return errors.New("it is no client of zebra")
	}
	return nil
}

// run runs one of the router's own programs on it.
func (r *router) run(ctx context.Context, argv ...string) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(r.dir, "bin", argv[0]), argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := r.net.Do(cmd.Start); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	return out.Bytes(), err
}

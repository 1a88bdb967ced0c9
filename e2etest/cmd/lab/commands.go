package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/supervisor"
)

// target is the flags that say which lab a command is about.
type target struct {
	name, dir string
}

func (t *target) flags(fs *flag.FlagSet) {
	fs.StringVar(&t.name, "name", or(os.Getenv("HERALD_LAB_NAME"), "demo"), "the lab's name (also $HERALD_LAB_NAME)")
	fs.StringVar(&t.dir, "state-dir", "", "the lab's folder (default $TMPDIR/herald-lab-NAME)")
}

func (t *target) stateDir() string { return or(t.dir, lab.DefaultStateDir(t.name)) }

func (t *target) attach() (*lab.Cluster, error) { return lab.AttachDir(t.stateDir()) }

// parse reads the flags of a command; flags end at the first other argument, so
// that those of kubectl and of programs pass through.
func parse(name string, args []string, more func(*flag.FlagSet)) (*target, []string, error) {
	fs := flag.NewFlagSet("lab "+name, flag.ContinueOnError)
	t := &target{}
	t.flags(fs)
	if more != nil {
		more(fs)
	}
	err := fs.Parse(args)
	return t, fs.Args(), err
}

// leading splits off the flags that say which lab is meant, as far as they stand
// first; all else, "kubectl -n" for one, belongs to the program that is run.
func leading(args []string) (own, rest []string) {
	for i := 0; i < len(args); {
		flag, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if !strings.HasPrefix(args[i], "-") || (flag != "name" && flag != "state-dir") {
			return args[:i], args[i:]
		}
		i++
		if !hasValue && i < len(args) {
			i++
		}
	}
	return args, nil
}

func build(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("build takes no arguments, got %q", args)
	}
	if err := lab.Build(ctx, os.Stdout); err != nil {
		return err
	}
	return lab.BuildImages(ctx, os.Stdout)
}

func up(ctx context.Context, args []string) error {
	o := lab.Options{Detach: true, Progress: os.Stdout}
	var families, images, topology string
	segments := 1
	t, rest, err := parse("up", args, func(fs *flag.FlagSet) {
		fs.IntVar(&o.Nodes, "nodes", 3, "how many nodes")
		fs.IntVar(&o.Clients, "clients", 1, "how many clients")
		fs.IntVar(&segments, "segments", 1, "of a flat topology: how many networks, each with everybody on it")
		fs.StringVar(&topology, "topology", string(lab.Flat), "flat, tor, racks, multihop or v6only; all but flat have routers")
		fs.StringVar(&families, "families", "", "dual, ipv4 or ipv6 (default dual; with v6only: ipv6)")
		fs.StringVar(&images, "images", "", "a JSON file {\"image name\": \"path of a static binary\"}, beside what lab build built")
		fs.StringVar(&o.LogDir, "log-dir", "", "where logs go (default below the lab's folder, and gone with it)")
		fs.DurationVar(&o.Life, "life", 2*time.Hour, "the lab ends by itself after this time")
	})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("up takes no arguments, got %q", rest)
	}
	o.Name, o.StateDir, o.Families = t.name, t.dir, lab.Families(families)
	o.Topology = lab.Topology(topology)
	if o.Topology == lab.Flat || segments != 1 {
		o.Segments = make([]lab.SegmentOptions, max(segments, 1))
	}
	if images != "" {
		if o.Images, err = lab.ReadImages(images); err != nil {
			return err
		}
	}
	c, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("kubeconfig: %s\n", c.State.Kubeconfig)
	return nil
}

func down(_ context.Context, args []string) error {
	t, _, err := parse("down", args, nil)
	if err != nil {
		return err
	}
	return lab.Remove(t.name, t.stateDir())
}

func status(ctx context.Context, args []string) error {
	t, _, err := parse("status", args, nil)
	if err != nil {
		return err
	}
	return say(ctx, t, "status")
}

func fault(ctx context.Context, args []string) error {
	t, rest, err := parse("fault", args, nil)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return fmt.Errorf("which fault?\n%s", faultHelp)
	}
	return say(ctx, t, rest[0], rest[1:]...)
}

// say asks the supervisor for something and prints its answer.
func say(ctx context.Context, t *target, verb string, args ...string) error {
	c, err := t.attach()
	if err != nil {
		return err
	}
	text, err := c.Fault(ctx, verb, args...)
	if err != nil {
		return err
	}
	fmt.Println(strings.TrimSuffix(text, "\n"))
	return nil
}

func kubectl(ctx context.Context, args []string) error {
	own, rest := leading(args)
	t, _, err := parse("kubectl", own, nil)
	if err != nil {
		return err
	}
	c, err := t.attach()
	if err != nil {
		return err
	}
	cmd := c.KubectlCommand(ctx, rest...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

func execute(ctx context.Context, args []string) error {
	t, rest, err := parse("exec", args, nil)
	if err != nil {
		return err
	}
	if len(rest) > 1 && rest[1] == "--" {
		rest = append(rest[:1:1], rest[2:]...)
	}
	if len(rest) < 2 {
		return errors.New("want: lab exec HOST -- PROGRAM ARGS")
	}
	c, err := t.attach()
	if err != nil {
		return err
	}
	err = c.ExecTo(ctx, rest[0], os.Stdin, os.Stdout, os.Stderr, rest[1:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit
	}
	return err
}

func image(_ context.Context, args []string) error {
	t, rest, err := parse("image", args, nil)
	if err != nil {
		return err
	}
	c, err := t.attach()
	if err != nil {
		return err
	}
	for _, arg := range rest {
		name, path, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q: want IMAGE=BINARY", arg)
		}
		if path, err = filepath.Abs(path); err != nil {
			return err
		}
		if err := c.AddImage(name, path); err != nil {
			return err
		}
	}
	return nil
}

// supervise holds a lab. Its only argument is the lab's options as JSON. Unless
// the lab is detached, it ends when its standard input does.
func supervise(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("supervise is called by lab up, with the lab's options")
	}
	var o lab.Options
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("read the lab's options: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !o.Detach {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // returns when the owner is gone
			cancel()
		}()
	}
	// A core dump of the API server is of no use to anybody and fills the disk.
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switch off core dumps: %w", err)
	}
	return supervisor.Run(ctx, o, os.Stdout)
}

func or(v, def string) string {
	if v == "" {
		return def
	}
	return v
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
)

// labName keeps the demo's clusters apart from those of tests. There is one at a
// time.
const labName = "demo"

// A part is acts on a cluster of their own.
type part struct {
	name  string
	place string
	lab   lab.Options
	acts  []act // the last cleans up
}

// An act shows one thing.
type act struct {
	title string
	play  func(context.Context, *stage) error
}

// parts are all of them, in their order.
var parts = []part{layer2, bgp}

// stage is where the demo plays: the cluster, and what was measured on it.
type stage struct {
	*lab.Cluster
	out     io.Writer
	started time.Time
	figures []string
	played  int // acts
}

// run plays all parts, or the one of a name. No cluster is left afterwards, but
// for the last if it is to be kept.
func run(ctx context.Context, out io.Writer, only string, keep bool) error {
	chosen, names := []part{}, []string{}
	for _, p := range parts {
		if names = append(names, p.name); only == "" || only == p.name {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("PART=%s: no such part, want one of %v", only, names)
	}
	s := &stage{out: out, started: time.Now()}
	for i, p := range chosen {
		if err := s.part(ctx, p, keep && i == len(chosen)-1); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\nDEMO OK %s demo_s=%.1f\n", strings.Join(s.figures, " "), time.Since(s.started).Seconds())
	return nil
}

// part plays one part on a fresh cluster.
func (s *stage) part(ctx context.Context, p part, keep bool) (err error) {
	s.progress("starting a Kubernetes cluster: %s", p.place)
	o := p.lab
	o.Name, o.Detach, o.Progress = labName, keep, s.out
	if s.Cluster, err = lab.Up(ctx, o); err != nil {
		return err
	}
	defer func() {
		if keep && err == nil {
			s.explainKeep(p)
			return
		}
		s.progress("taking everything down")
		err = errors.Join(err, s.Down(), gone())
	}()
	s.progress("kubectl apply -k config/default")
	if err := herald.Install(ctx, s.Cluster); err != nil {
		return err
	}
	acts := p.acts
	if keep {
		acts = acts[:len(acts)-1] // the last cleans up
	}
	for _, act := range acts {
		s.played++
		fmt.Fprintf(s.out, "\n━━ %d. %s\n", s.played, act.title)
		if err := act.play(ctx, s); err != nil {
			return fmt.Errorf("act %d, %s: %w", s.played, act.title, err)
		}
	}
	fmt.Fprintln(s.out)
	return nil
}

// gone checks that nothing of the cluster is left on the machine.
func gone() error {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return fmt.Errorf("list the network namespaces: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "herald-"+labName+"-") {
			return fmt.Errorf("the network namespace %s is left over", strings.TrimSpace(line))
		}
	}
	if _, err := os.Stat(lab.DefaultStateDir(labName)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the folder %s is left over", lab.DefaultStateDir(labName))
	}
	return nil
}

func (s *stage) explainKeep(p part) {
	fmt.Fprintf(s.out, `
The cluster is up for %s. Play with it, in the folder e2etest:
  bin/lab kubectl get services,nodes -o wide
  bin/lab kubectl -n %s get pods,servicel2statuses,servicebgpstatuses,bgpsessionstatuses,configurationstates
  bin/lab exec client1 -- curl -s http://ADDRESS/
  bin/lab fault power-off node1     (and power-on)
`, s.State.Options.Life, herald.Namespace)
	if p.lab.Topology != lab.Flat && p.lab.Topology != "" {
		fmt.Fprintf(s.out, "  bin/lab exec %s -- vtysh\n", router)
	}
	fmt.Fprintln(s.out, "  bin/lab down")
}

func (s *stage) progress(format string, args ...any) {
	fmt.Fprintf(s.out, "[%5.1fs] "+format+"\n", append([]any{time.Since(s.started).Seconds()}, args...)...)
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, "   "+format+"\n", args...) }

// figure remembers a measured figure for the last line.
func (s *stage) figure(name string, value any) {
	s.figures = append(s.figures, fmt.Sprintf("%s=%v", name, value))
}

// kubectl runs kubectl and shows the command and what it printed.
func (s *stage) kubectl(ctx context.Context, args ...string) (string, error) {
	fmt.Fprintf(s.out, "$ kubectl %s\n", quoted(args))
	text, err := s.Kubectl(ctx, args...)
	s.show(text)
	return text, err
}

// apply shows YAML and applies it.
func (s *stage) apply(ctx context.Context, yaml string) error {
	fmt.Fprintln(s.out, "$ kubectl apply -f -")
	s.show(yaml)
	return s.Apply(ctx, yaml)
}

// on runs a program on a host and shows the command and what it printed.
func (s *stage) on(ctx context.Context, host string, argv ...string) (string, error) {
	fmt.Fprintf(s.out, "%s$ %s\n", host, quoted(argv))
	var both bytes.Buffer
	err := s.ExecTo(ctx, host, nil, &both, &both, argv...)
	s.show(both.String())
	return both.String(), err
}

func (s *stage) show(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		fmt.Fprintf(s.out, "   %s\n", strings.TrimRight(line, "\n"))
	}
}

// quoted writes a command as one would type it.
func quoted(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a; strings.ContainsAny(a, ` "{}[]$*'`) {
			words[i] = "'" + a + "'"
		}
	}
	return strings.Join(words, " ")
}

// until polls a condition until it says yes, for a bounded time; its last
// complaint is the error.
func until(ctx context.Context, limit time.Duration, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var complaint error
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || complaint == nil {
			complaint = err // one that the end itself caused would hide it
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, complaint)
		case <-tick.C:
		}
	}
}

package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/heraldlb/herald/e2etest/lab/nsnet"
	"github.com/heraldlb/herald/e2etest/lab/probe"
)

// Probe is a measurement that runs on a host.
type Probe struct {
	ns     *nsnet.Namespace
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	stderr bytes.Buffer
}

// Probe starts to measure targets, from a host that is usually a client. It
// returns when the first probe of each is on its way; Stop returns the results.
// When ctx ends, the measurement is killed.
func (c *Cluster) Probe(ctx context.Context, from string, o probe.Options) (*Probe, error) {
	h, err := c.State.Layout.Host(from)
	if err != nil {
		return nil, err
	}
	args := []string{"probe", "--here"}
	if o.Interval > 0 {
		args = append(args, "--interval="+o.Interval.String())
	}
	if o.Timeout > 0 {
		args = append(args, "--timeout="+o.Timeout.String())
	}
	for _, t := range o.Targets {
		args = append(args, t.String())
	}
	p := &Probe{cmd: exec.CommandContext(ctx, filepath.Join(c.State.Options.BinDir, "lab"), args...)}
	if p.ns, err = nsnet.Open(h.Namespace); err != nil {
		return nil, err
	}
	if err := p.start(); err != nil {
		p.ns.Close()
		return nil, fmt.Errorf("probe from %s: %w", h.Name, err)
	}
	return p, nil
}

func (p *Probe) start() error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.stdout = bufio.NewReader(stdout)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.ns.Do(p.cmd.Start); err != nil {
		return err
	}
	if line, err := p.stdout.ReadString('\n'); err != nil || strings.TrimSpace(line) != ProbeStarted {
		p.stdin.Close()
		return withStderr(errors.Join(errors.New("it does not start"), err, p.cmd.Wait()), &p.stderr)
	}
	return nil
}

// ProbeStarted is the line by which a probe says that it has begun.
const ProbeStarted = "started"

// Stop ends the measurement and returns what it saw, in the order of the targets.
func (p *Probe) Stop() ([]probe.Result, error) {
	defer p.ns.Close()
	p.stdin.Close()
	raw, readErr := io.ReadAll(p.stdout)
	if err := errors.Join(readErr, p.cmd.Wait()); err != nil {
		return nil, fmt.Errorf("probe: %w", withStderr(err, &p.stderr))
	}
	var results []probe.Result
	if err := json.Unmarshal(raw, &results); err != nil {
		return nil, fmt.Errorf("probe: read the results: %w", err)
	}
	return results, nil
}

//go:build lab

package harness

import (
	"context"
	"time"
)

// A fault is something broken, until it is mended: by the story, or by the end
// of the test.
func (h *Test) fault(what string, broken error, mend func(context.Context) error) (mendNow func()) {
	h.Helper()
	mended := false
	once := func(ctx context.Context) error {
		if mended {
			return nil
		}
		mended = true
		return mend(ctx)
	}
	h.OnEnd(what, once)
	h.Must(broken)
	return func() {
		h.Helper()
		h.Must(once(h.Ctx))
	}
}

// bootLimit bounds the boot of a node.
const bootLimit = 90 * time.Second

// PowerOff takes a node's power; boot gives it back and waits until the node is
// Ready.
func (h *Test) PowerOff(node string) (boot func()) {
	h.Helper()
	h.WholeAtEnd()
	return h.fault("boot "+node, h.Cluster.PowerOff(h.Ctx, node), func(context.Context) error {
		// Booting takes longer than other cleaning up.
		ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
		defer cancel()
		return h.PowerOn(ctx, node)
	})
}

// Pause freezes a node with its links cut, as a stalled virtual machine is; resume
// lets it go on where it was, believing what it believed.
func (h *Test) Pause(node string) (resume func()) {
	h.Helper()
	h.WholeAtEnd()
	_, err := h.Fault(h.Ctx, "pause", node)
	return h.fault("resume "+node, err, func(ctx context.Context) error {
		_, err := h.Fault(ctx, "resume", node)
		return err
	})
}

// PullCable takes the carrier of a host's interface; plug gives it back.
func (h *Test) PullCable(host, iface string) (plug func()) {
	h.Helper()
	return h.fault("plug in "+iface+" of "+host, h.LinkDown(h.Ctx, host, iface), func(ctx context.Context) error {
		return h.LinkUp(ctx, host, iface)
	})
}

// StopProgram stops a program of a node, or of the control plane "cp".
func (h *Test) StopProgram(host, program string) (start func()) {
	h.Helper()
	return h.fault("start "+program+" on "+host, h.Cluster.StopProgram(h.Ctx, host, program), func(ctx context.Context) error {
		return h.StartProgram(ctx, host, program)
	})
}

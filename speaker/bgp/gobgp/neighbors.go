package gobgp

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/heraldlb/herald/internal/reason"
)

type neighbors struct{ log *slog.Logger }

func newNeighbors(log *slog.Logger) *neighbors { return &neighbors{log} }
func (n *neighbors) run(ctx context.Context)   { <-ctx.Done() }
func (n *neighbors) set([]string)              {}
func (n *neighbors) find(context.Context, string) (netip.Addr, reason.Reason, string) {
	return netip.Addr{}, reason.NeighborUnknown, "unknown"
}

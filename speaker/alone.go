package main

import (
	"context"

	"github.com/heraldlb/herald/speaker/observed"
)

// alone is the ring when membership is switched off: every node counts as
// alive, nobody says anything of itself, and nobody is told.
type alone struct{}

func (alone) Members() observed.Members          { return observed.Members{Settled: true} }
func (alone) Changed() <-chan struct{}           { return nil }
func (alone) SetPhase(observed.Phase)            {}
func (alone) SetInterfaces([]observed.Interface) {}
func (alone) Refresh()                           {}
func (alone) Flush(context.Context) error        { return nil }

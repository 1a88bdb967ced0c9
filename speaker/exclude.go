package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/heraldlb/herald/speaker/link"
)

// excludeEvery is how often the file is read. The kubelet refreshes a mounted
// ConfigMap about once a minute.
const excludeEvery = 5 * time.Second

// watchExclude keeps the patterns of interfaces that never announce up to date
// with a file until ctx ends. No file means no patterns. One that cannot be
// read or understood leaves those that were in force.
func watchExclude(ctx context.Context, path string, log *slog.Logger, in *inbox) error {
	var last string
	first := true
	tick := time.NewTicker(excludeEvery)
	defer tick.Stop()
	for {
		content, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			content, err = nil, nil
		case err != nil:
			log.Error("cannot read the patterns of excluded interfaces; those before stay in force", "path", path, "err", err)
		}
		if err == nil && (first || string(content) != last) {
			first, last = false, string(content)
			exclude, err := link.ParseExclude(content)
			if errors.Is(err, link.ErrUnreadable) {
				log.Error("the patterns of excluded interfaces are not used; those before stay in force", "path", path, "err", err)
			} else {
				in.put(func(n *notes) { n.exclude = &exclude })
				if err != nil {
					log.Error("some patterns of excluded interfaces are not used", "path", path, "err", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

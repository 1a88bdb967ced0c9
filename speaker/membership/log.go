package membership

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// logWriter turns memberlist's lines into records of slog. It lets a burst of
// warnings through and then a few, since most lines are caused by packets, and
// counts the rest.
type logWriter struct {
	log     *slog.Logger
	metrics *ringMetrics

	mu      sync.Mutex // guards the rest
	tokens  float64
	filled  time.Time
	dropped int
}

const (
	logBurst     = 10
	logPerSecond = 0.2
)

func newLogWriter(log *slog.Logger, m *ringMetrics) *logWriter {
	return &logWriter{log: log, metrics: m, tokens: logBurst, filled: time.Now()}
}

// levels are memberlist's prefixes. Its errors are mostly another node's
// trouble, such as a failed connection, and nobody should be woken by them.
var levels = []struct {
	prefix string
	level  slog.Level
}{
	{"[DEBUG]", slog.LevelDebug},
	{"[INFO]", slog.LevelInfo},
	{"[WARN]", slog.LevelWarn},
	{"[ERR]", slog.LevelWarn},
	{"[ERROR]", slog.LevelWarn},
}

// Write takes one line. It never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelInfo, bytes.TrimSpace(line)
	for _, l := range levels {
		if rest, ok := bytes.CutPrefix(text, []byte(l.prefix)); ok {
			level, text = l.level, bytes.TrimSpace(rest)
			break
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	if bytes.Contains(text, []byte(foreignKey)) {
		w.metrics.undecryptable.Inc()
	}
	if !w.log.Enabled(context.Background(), level) {
		return len(line), nil
	}
	ok, dropped := w.take(time.Now(), level)
	if !ok {
		return len(line), nil
	}
	var attrs []slog.Attr
	if dropped > 0 {
		attrs = append(attrs, slog.Int("dropped", dropped))
	}
	w.log.LogAttrs(context.Background(), level, string(text), attrs...)
	return len(line), nil
}

// take says whether a line of that level may be written now, and how many were
// dropped before it.
func (w *logWriter) take(now time.Time, level slog.Level) (bool, int) {
	if level < slog.LevelWarn {
		return true, 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens = min(logBurst, w.tokens+logPerSecond*now.Sub(w.filled).Seconds())
	w.filled = now
	if w.tokens < 1 {
		w.dropped++
		return false, 0
	}
	w.tokens--
	n := w.dropped
	w.dropped = 0
	return true, n
}

package membership

import (
	"context"
	"time"

	"github.com/hashicorp/memberlist"
)

// awaitKey reads the secret until there is one.
func (r *Ring) awaitKey(ctx context.Context) (key, string, error) {
	for said := ""; ; {
		text, err := r.cfg.Secret()
		if err == nil {
			var k key
			if k, err = r.derive(text); err == nil {
				return k, text, nil
			}
		}
		if said != err.Error() {
			said = err.Error()
			r.log.Error("without its secret the gossip ring is not joined and nothing is announced", "err", err)
			r.mu.Lock()
			r.facts.keyErr = said
			r.refresh(time.Now())
			r.mu.Unlock()
		}
		if !sleep(ctx, r.secretEvery) {
			return key{}, "", ctx.Err()
		}
	}
}

// keep looks at the clock: whether the ring is settled by now, whether the
// secret has changed, and which states are no longer needed.
func (r *Ring) keep(ctx context.Context, k *keeper) {
	for nextSecret := time.Now().Add(r.secretEvery); ; {
		now := time.Now()
		if !now.Before(nextSecret) {
			nextSecret = now.Add(r.secretEvery)
			k.secret(now)
		}
		until := time.Until(nextSecret)
		r.mu.Lock()
		r.refresh(now)
		if !r.settled && !r.settleAt.IsZero() {
			until = min(until, time.Until(r.settleAt))
		}
		r.prune(now)
		r.mu.Unlock()
		t := time.NewTimer(max(until, time.Millisecond))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-r.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// prune forgets the states of nodes that have not been in the ring for long. A
// node that was only suspected finds its state still there. mu is held.
func (r *Ring) prune(now time.Time) {
	for node, s := range r.states {
		if _, ok := r.members[node]; ok {
			delete(r.gone, node)
			continue
		}
		since, ok := r.gone[node]
		switch {
		case !ok:
			r.gone[node] = now
		case now.Sub(since) > keepGone:
			delete(r.gone, node)
			delete(r.states, s.Node)
		}
	}
}

const keepGone = 10 * time.Minute

// keeper carries out changes of keys.
type keeper struct {
	r       *Ring
	keyring *memberlist.Keyring
	// text is the secret as last read, wanted the key made of it.
	text   string
	wanted key
	// said is the error that was logged last.
	said string
	// stepped is when the last step was taken.
	stepped time.Time
}

// secret reads the secret and takes the next step of a change, if it is due.
func (k *keeper) secret(now time.Time) {
	text, err := k.r.cfg.Secret()
	switch {
	case err != nil:
		// The key in use stays: a vanished secret must not stop a running ring.
		if k.said != err.Error() {
			k.said = err.Error()
			k.r.log.Warn("the gossip secret cannot be read; the key in use stays", "err", err)
		}
	case text != k.text:
		wanted, err := k.r.derive(text)
		if err != nil {
			k.r.log.Error("the new gossip secret cannot be used; the key in use stays", "err", err)
			break
		}
		k.said, k.text, k.wanted, k.stepped = "", text, wanted, now
	default:
		k.said = ""
	}
	k.rotate(now)
}

func (k *keeper) rotate(now time.Time) {
	r := k.r
	r.mu.Lock()
	rot := rotation{installed: r.keys, wanted: k.wanted.ID, since: k.stepped}
	for name, m := range r.members {
		if name != r.cfg.Node {
			rot.others = append(rot.others, m.meta.Keys)
		}
	}
	r.mu.Unlock()
	var err error
	var what string
	switch rot.next(now, r.cfg.LearnWithin) {
	case stepNone:
		return
	case stepAdd:
		what = "accepted"
		err = k.keyring.AddKey(k.wanted.Bytes)
	case stepUse:
		what = "used for sending"
		err = k.keyring.UseKey(k.wanted.Bytes)
	case stepRemove:
		what = "the only one"
		// From the end: the ring's list is read without a lock while it shrinks.
		for old := k.keyring.GetKeys(); len(old) > 1 && err == nil; old = k.keyring.GetKeys() {
			err = k.keyring.RemoveKey(old[len(old)-1])
		}
	}
	if err != nil {
		r.log.Error("the gossip key cannot be changed", "key", k.wanted.ID.String(), "err", err)
		return
	}
	k.stepped = now
	r.log.Info("the new gossip key is "+what, "key", k.wanted.ID.String())
	r.mu.Lock()
	r.keys = nil
	for _, b := range k.keyring.GetKeys() {
		r.keys = append(r.keys, newKey(b).ID)
	}
	r.mu.Unlock()
	signal(r.dirty)   // the metadata tells the others
	signal(r.joinNow) // who was kept out by the key may be let in
}

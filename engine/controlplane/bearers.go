package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
)

const (
	tokensFor    = time.Second     // how old what is known of operators' tokens may be: one that was removed is not good for longer
	tokensWithin = 5 * time.Second // a read of them
	maxStrangers = 256             // requests with tokens that are not known, which wait for the next read
)

// errStrangers: so many tokens that nobody knows are tried that one more is not looked at.
var errStrangers = errors.New("too many wrong tokens are tried")

// readsForStrangers is how often tokens are read for one that nobody knows, beside the read a second: it may be new.
func readsForStrangers() Rate { return Rate{PerSecond: 20, Burst: 500} }

// bearers knows operators' tokens. All of them, few, are read at once, a bounded number of times however many ask. Where
// too many ask with a token that nobody knows they wait for the read a second, and cost the store nothing more. One that is
// known waits for nobody's wrong ones.
type bearers struct {
	tokens Tokens
	begun  time.Time
	reads  bucket // for strangers

	mu        sync.Mutex // guards what follows
	at        time.Time  // when the read of known began
	known     map[string]access.Token
	next      *tokensRead // under way, or waiting for its time; nil: none
	strangers int
}

// tokensRead is a read of all tokens. known and err are set before done is closed.
type tokensRead struct {
	done  chan struct{}
	began time.Time
	known map[string]access.Token // by hash
	err   error
}

// find gives the token with a hash that is good now; access.ErrUnknown, errStrangers.
func (b *bearers) find(ctx context.Context, hash string) (access.Token, error) {
	if b.tokens == nil {
		return access.Token{}, access.ErrUnknown
	}
	b.mu.Lock()
	t, known := b.known[hash]
	fresh := time.Since(b.at) < tokensFor
	if known && fresh {
		b.mu.Unlock()
		return good(t)
	}
	if !known {
		if b.strangers >= maxStrangers {
			b.mu.Unlock()
			return access.Token{}, errStrangers
		}
		b.strangers++
		defer b.left()
	}
	r := b.next
	if r == nil {
		r = &tokensRead{done: make(chan struct{})}
		b.next = r
		after := tokensFor - time.Since(b.at)
		if _, ok := b.reads.take(readsForStrangers(), time.Since(b.begun)); ok && fresh {
			after = 0
		}
		go b.read(r, after)
	}
	b.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return access.Token{}, ctx.Err()
	}
	if r.err != nil {
		return access.Token{}, fmt.Errorf("look a token up: %w", r.err)
	}
	if t, known = r.known[hash]; !known {
		return access.Token{}, access.ErrUnknown
	}
	return good(t)
}

func good(t access.Token) (access.Token, error) {
	if !t.Good(time.Now()) {
		return access.Token{}, access.ErrUnknown
	}
	return t, nil
}

func (b *bearers) left() {
	b.mu.Lock()
	b.strangers--
	b.mu.Unlock()
}

// read reads all tokens after a while, for whoever waits for it. It ends by itself.
func (b *bearers) read(r *tokensRead, after time.Duration) {
	if after > 0 {
		time.Sleep(after)
	}
	ctx, cancel := context.WithTimeout(context.Background(), tokensWithin)
	defer cancel()
	r.began = time.Now()
	all, err := b.tokens.Tokens(ctx)
	r.known, r.err = make(map[string]access.Token, len(all)), err
	for _, t := range all {
		r.known[t.Hash] = t
	}
	b.mu.Lock()
	if b.next == r {
		b.next = nil
		if err == nil {
			b.at, b.known = r.began, r.known
		}
	}
	b.mu.Unlock()
	close(r.done)
}

// forget has the next who asks read them again, for they were changed here.
func (b *bearers) forget() {
	b.mu.Lock()
	b.at, b.known, b.next = time.Time{}, nil, nil
	b.mu.Unlock()
}

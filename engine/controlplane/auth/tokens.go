package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
)

const (
	TokensFor    = time.Second     // how old what is known of operators' tokens may be: one that was removed is not good for longer
	tokensWithin = 5 * time.Second // a read of them
	maxUnknown   = 256             // requests with tokens that are not known, which wait for the next read
)

// errManyUnknown: so many tokens that nobody knows are tried that one more is not looked at.
var errManyUnknown = errors.New("too many wrong tokens are tried")

// unknownReads is how often tokens are read for one that nobody knows, beside the read a second: it may be new.
func unknownReads() limit.Rate { return limit.Rate{PerSecond: 20, Burst: 500} }

// tokenCache knows operators' tokens. All of them, few, are read at once, a bounded number of times however many ask. Where
// too many ask with a token that nobody knows they wait for the read a second, and cost the store nothing more. One that is
// known waits for nobody's wrong ones.
type tokenCache struct {
	tokens Tokens
	begun  time.Time
	reads  limit.Bucket // for tokens that nobody knows

	mu      sync.Mutex // guards what follows
	at      time.Time  // when the read of known began
	known   map[string]access.Token
	next    *tokensRead // under way, or waiting for its time; nil: none
	unknown int         // requests that wait with tokens that nobody knows
}

// tokensRead is a read of all tokens. known and err are set before done is closed.
type tokensRead struct {
	done  chan struct{}
	began time.Time
	known map[string]access.Token // by hash
	err   error
}

// find gives the token with a hash that is good now; access.ErrUnknown, errManyUnknown.
func (t *tokenCache) find(ctx context.Context, hash string) (access.Token, error) {
	if t.tokens == nil {
		return access.Token{}, access.ErrUnknown
	}
	t.mu.Lock()
	found, known := t.known[hash]
	fresh := time.Since(t.at) < TokensFor
	if known && fresh {
		t.mu.Unlock()
		return good(found)
	}
	if !known {
		if t.unknown >= maxUnknown {
			t.mu.Unlock()
			return access.Token{}, errManyUnknown
		}
		t.unknown++
		defer t.left()
	}
	r := t.next
	if r == nil {
		r = &tokensRead{done: make(chan struct{})}
		t.next = r
		after := TokensFor - time.Since(t.at)
		if _, ok := t.reads.Take(unknownReads(), time.Since(t.begun)); ok && fresh {
			after = 0
		}
		go t.read(r, after)
	}
	t.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return access.Token{}, ctx.Err()
	}
	if r.err != nil {
		return access.Token{}, fmt.Errorf("look a token up: %w", r.err)
	}
	if found, known = r.known[hash]; !known {
		return access.Token{}, access.ErrUnknown
	}
	return good(found)
}

func good(t access.Token) (access.Token, error) {
	if !t.Good(time.Now()) {
		return access.Token{}, access.ErrUnknown
	}
	return t, nil
}

func (t *tokenCache) left() {
	t.mu.Lock()
	t.unknown--
	t.mu.Unlock()
}

// read reads all tokens after a while, for whoever waits for it. It ends by itself.
func (t *tokenCache) read(r *tokensRead, after time.Duration) {
	if after > 0 {
		time.Sleep(after)
	}
	ctx, cancel := context.WithTimeout(context.Background(), tokensWithin)
	defer cancel()
	r.began = time.Now()
	all, err := t.tokens.Tokens(ctx)
	r.known, r.err = make(map[string]access.Token, len(all)), err
	for _, one := range all {
		r.known[one.Hash] = one
	}
	t.mu.Lock()
	if t.next == r {
		t.next = nil
		if err == nil {
			t.at, t.known = r.began, r.known
		}
	}
	t.mu.Unlock()
	close(r.done)
}

// forget has the next who asks read them again, for they were changed here.
func (t *tokenCache) forget() {
	t.mu.Lock()
	t.at, t.known, t.next = time.Time{}, nil, nil
	t.mu.Unlock()
}

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
	TokenMaxAge      = time.Second     // how old what is known of operators' tokens may be: one that was removed is not good for longer
	tokenReadTimeout = 5 * time.Second // a read of them
	maxUnknownTokens = 256             // requests with tokens that are not known, which wait for the next read
)

// errTooManyUnknown: so many tokens that nobody knows are tried that one more is not looked at.
var errTooManyUnknown = errors.New("too many wrong tokens are tried")

// unknownTokenRate is how often tokens are read for one that nobody knows, beside the read a second: it may be new.
func unknownTokenRate() limit.Rate { return limit.Rate{PerSecond: 20, Burst: 500} }

// tokenCache knows operators' tokens. All of them, few, are read at once, a bounded number of times however many ask. Where
// too many ask with a token that nobody knows they wait for the read a second, and cost the store nothing more. One that is
// known waits for nobody's wrong ones.
type tokenCache struct {
	tokens       Tokens
	clockStart   time.Time
	unknownReads limit.Bucket // for tokens that nobody knows

	mu             sync.Mutex // guards what follows
	readAt         time.Time  // when the read of known began
	byHash         map[string]access.Token
	pending        *tokenRead // under way, or waiting for its time; nil: none
	unknownWaiters int        // requests that wait with tokens that nobody knows
}

// tokenRead is a read of all tokens. known and err are set before done is closed.
type tokenRead struct {
	done      chan struct{}
	startedAt time.Time
	byHash    map[string]access.Token // by hash
	err       error
}

// lookUp gives the token with a hash that is good now; access.ErrUnknown, errManyUnknown.
func (t *tokenCache) lookUp(ctx context.Context, hash string) (access.Token, error) {
	if t.tokens == nil {
		return access.Token{}, access.ErrUnknown
	}
	t.mu.Lock()
	found, known := t.byHash[hash]
	fresh := time.Since(t.readAt) < TokenMaxAge
	if known && fresh {
		t.mu.Unlock()
		return unexpired(found)
	}
	if !known {
		if t.unknownWaiters >= maxUnknownTokens {
			t.mu.Unlock()
			return access.Token{}, errTooManyUnknown
		}
		t.unknownWaiters++
		defer t.removeWaiter()
	}
	r := t.pending
	if r == nil {
		r = &tokenRead{done: make(chan struct{})}
		t.pending = r
		after := TokenMaxAge - time.Since(t.readAt)
		if _, ok := t.unknownReads.Allow(unknownTokenRate(), time.Since(t.clockStart)); ok && fresh {
			after = 0
		}
		go t.readTokens(r, after)
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
	if found, known = r.byHash[hash]; !known {
		return access.Token{}, access.ErrUnknown
	}
	return unexpired(found)
}

func unexpired(t access.Token) (access.Token, error) {
	if !t.Good(time.Now()) {
		return access.Token{}, access.ErrUnknown
	}
	return t, nil
}

func (t *tokenCache) removeWaiter() {
	t.mu.Lock()
	t.unknownWaiters--
	t.mu.Unlock()
}

// readTokens reads all tokens after a while, for whoever waits for it. It ends by itself.
func (t *tokenCache) readTokens(r *tokenRead, after time.Duration) {
	if after > 0 {
		time.Sleep(after)
	}
	ctx, cancel := context.WithTimeout(context.Background(), tokenReadTimeout)
	defer cancel()
	r.startedAt = time.Now()
	all, err := t.tokens.Tokens(ctx)
	r.byHash, r.err = make(map[string]access.Token, len(all)), err
	for _, one := range all {
		r.byHash[one.Hash] = one
	}
	t.mu.Lock()
	if t.pending == r {
		t.pending = nil
		if err == nil {
			t.readAt, t.byHash = r.startedAt, r.byHash
		}
	}
	t.mu.Unlock()
	close(r.done)
}

// invalidate has the next who asks read them again, for they were changed here.
func (t *tokenCache) invalidate() {
	t.mu.Lock()
	t.readAt, t.byHash, t.pending = time.Time{}, nil, nil
	t.mu.Unlock()
}

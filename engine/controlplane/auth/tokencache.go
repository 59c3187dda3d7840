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
	TokenMaxAge      = time.Second     // how long a removed token may remain valid
	tokenReadTimeout = 5 * time.Second // for reading all tokens
	maxUnknownTokens = 256             // waiting requests with unknown tokens
)

// errTooManyUnknown refuses a request while too many others wait with unknown tokens.
var errTooManyUnknown = errors.New("too many requests with unknown tokens")

// unknownTokenRate bounds the reads, beyond one each second, for unknown tokens, which may be new.
func unknownTokenRate() limit.Rate { return limit.Rate{PerSecond: 20, Burst: 500} }

// tokenCache caches all operators' tokens, which are few. It reads them from the store at most once a second, and a
// bounded number of times more for unknown tokens. Beyond that bound, requests with unknown tokens wait for the next
// read; requests with known tokens never wait for them.
type tokenCache struct {
	tokens       Tokens
	clockStart   time.Time
	unknownReads limit.Bucket // bounds reads for unknown tokens

	mu             sync.Mutex // guards what follows
	readAt         time.Time  // when the read of byHash began
	byHash         map[string]access.Token
	pending        *tokenRead // in flight or scheduled; nil if there is none
	unknownWaiters int        // requests that wait with unknown tokens
}

// tokenRead is one read of all tokens. byHash and err are set before done is closed.
type tokenRead struct {
	done      chan struct{}
	startedAt time.Time
	byHash    map[string]access.Token
	err       error
}

// lookUp returns the unexpired token with a hash. It returns access.ErrUnknown or errTooManyUnknown otherwise.
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
	if !t.IsValid(time.Now()) {
		return access.Token{}, access.ErrUnknown
	}
	return t, nil
}

func (t *tokenCache) removeWaiter() {
	t.mu.Lock()
	t.unknownWaiters--
	t.mu.Unlock()
}

// readTokens reads all tokens after a delay, for all requests that wait for r.
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

// invalidate makes the next lookup read all tokens again.
func (t *tokenCache) invalidate() {
	t.mu.Lock()
	t.readAt, t.byHash, t.pending = time.Time{}, nil, nil
	t.mu.Unlock()
}

package rows

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	maxBatch   = 512              // reports that share a commit
	batchDelay = time.Millisecond // the longest that one waits for others
)

// ErrClosed answers calls after Close.
var ErrClosed = errors.New("the store is closed")

// Queue gathers the reports of many callers, so that they share commits. It commits as soon as a batch is as large as
// the one before, for then all who were waiting have come again, or after a millisecond: a lone caller does not wait,
// and many share one write to the disk.
type Queue struct {
	write func(batch []*Report) (refused map[*Report]error, err error)

	mu     sync.RWMutex // held for reading while a report is handed over; guards closed
	closed bool
	queue  chan *Report  // closed by Close
	done   chan struct{} // closed when the writer has ended
}

// NewQueue starts a queue; Close it. write is called by one goroutine with a batch to keep in one durable transaction.
// err says that none of it was kept, refused which were not though the others were.
func NewQueue(write func(batch []*Report) (refused map[*Report]error, err error)) *Queue {
	q := &Queue{write: write, queue: make(chan *Report, maxBatch), done: make(chan struct{})}
	go q.run()
	return q
}

// Submit hands a report over, and waits until it is durable. If ctx ends first, whether it was kept is not known.
func (q *Queue) Submit(ctx context.Context, r *Report) error {
	if err := q.enqueue(ctx, r); err != nil {
		return err
	}
	select {
	case err := <-r.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *Queue) enqueue(ctx context.Context, r *Report) error {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return ErrClosed
	}
	select {
	case q.queue <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Closed tells whether Close was called.
func (q *Queue) Closed() bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.closed
}

// Close takes no more, and returns when all that was handed over is written. It may be called again.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.queue)
	}
	q.mu.Unlock()
	<-q.done
}

func (q *Queue) run() {
	defer close(q.done)
	previous := 1
	for first := range q.queue {
		batch := q.collectBatch(first, previous)
		refused, err := q.write(batch)
		for _, r := range batch {
			if err == nil {
				r.result <- refused[r]
			} else {
				r.result <- err
			}
		}
		previous = len(batch)
	}
}

// collectBatch takes what is waiting, up to maxBatch, and waits for more up to batchDelay while there are fewer than enough.
func (q *Queue) collectBatch(first *Report, enough int) []*Report {
	batch := []*Report{first}
	var late <-chan time.Time
	for len(batch) < maxBatch {
		select {
		case r, ok := <-q.queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
			continue
		default:
		}
		if len(batch) >= enough {
			return batch
		}
		if late == nil {
			t := time.NewTimer(batchDelay)
			defer t.Stop()
			late = t.C
		}
		select {
		case r, ok := <-q.queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		case <-late:
			return batch
		}
	}
	return batch
}

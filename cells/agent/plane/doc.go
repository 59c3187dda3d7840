// Package plane connects one cell to its control plane only. It registers the cell by a token, receives
// the desired state by a stream, or by polls where no stream gets through, sends reports with the cell's history,
// fetches content, and rotates the cell's key when asked. It decides nothing about releases and applies nothing: the
// desired state goes to a Handler, and reports are what was published.
//
// The control plane knows the cell by a key, which a token registered and which never leaves the state folder. The cell
// knows the control plane by a set of pins, and sends nothing to anyone else (R29). Credentials are durable before
// anything depends on them, and history is kept until it is acknowledged, so the process may be killed at any instant.
// Whatever the control plane answers, requests are bounded: pauses grow to a limit, with jitter (R33), and every
// response has a limit in size and in time.
//
// To add something to the stream, add a field to cells.Desired, which the Handler gets. To fetch something new by
// digest, add a content.Kind. A new request is a method of Client beside postReport.
//
// A Client, its Credentials, a Reporter and an Outbox are safe for concurrent use. Run has three goroutines, which end
// with it: one receives the desired state, one reports, one rotates keys.
package plane

// Package plane speaks with the control plane for one cell, and with nobody else: it registers the cell by a token, hears
// what the cell should run by a stream, or by polls where no stream comes through, sends reports with the cell's history,
// fetches content, and changes the cell's key when asked. It decides nothing about releases and applies nothing: what it
// hears goes to a Handler, what it reports is what was published.
//
// To its control plane the cell is a key of its own, which a token registered and which never leaves the state folder; to
// the cell the control plane is a set of pins, and nobody else is told anything (R29). Credentials are durable before
// anything rests on them, and history is until it is acknowledged, so both may be killed at any instant. However the other
// side answers, it is not asked without end: pauses grow, to a limit and with jitter (R33); every answer has a limit in
// size and in time.
//
// What a stream may carry besides is a field of cells.Desired, and then the Handler's; what the other side serves by digest
// is a content.Kind. A new question is a method of Client beside report.
//
// A Client, its Credentials, a Reporter and an Outbox are safe for concurrent use. Run has three goroutines, which end with
// it: one hears, one reports, one changes keys.
package plane

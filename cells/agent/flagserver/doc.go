// Package flagserver has a cell's feature flags in force, and answers for them on this machine: it folds what the cell was
// told with what its releases contain, what its owner holds and the control plane's time, and serves that by OFREP on
// loopback or a unix socket. It listens nowhere else and dials nobody; bundles come from a Source. It decides neither what
// runs nor what is announced.
//
// A flag is on only where its code is in every release that may be running, which the loop says before the first write of
// an apply (Runs, R38), and not before the control plane's time for it came (R40). A kill is in force as soon as it was
// told, whatever else fails, and is reported once it is durable; a lower height is refused; the last good bundle stands
// until another one was fetched, verified and compiled (R39, R43).
//
// A Server has a lock of its own, so that it waits for nobody: all its methods may be called at once. Fetch, KeepTime and
// Serve each run in one goroutine, until their context ends.
package flagserver

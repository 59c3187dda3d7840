// Package debugging keeps requests for debug access at the control plane: what people of the vendor asked the owners of
// cells for, and the seals of the sessions' records. It checks a request before it is kept, has cells hear of theirs,
// and shows what became of each, as the cell reports it.
//
// A request is the signed document of a person (package cells/debug), so the control plane can neither make one nor
// change one, and permits nothing: that is the cell's owner's alone (D1, D4). A lost database loses requests, which
// people make again, and no permission.
//
// A Keeper may be used by many goroutines and replicas at once. Run must be called once.
package debugging

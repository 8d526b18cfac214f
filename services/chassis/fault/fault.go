// Package fault is the closed list of what can go wrong between services, and
// the only place where a kind of error becomes a gRPC code and back.
//
// Absent, conflict, invalid and unavailable must stay different answers all the
// way to the client: an outage that reads as absence shows an empty cart.
// What crosses the wire is kind, code, message and when to try again; the cause stays in the
// process that met it, which logs it.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Kind says what a caller can do about an error.
type Kind uint8

// The kinds. The zero value is Internal, so that an error nobody classified is
// never taken for something a client did.
const (
	Internal        Kind = iota // a defect of ours
	Invalid                     // can never succeed as it is
	Refused                     // well-formed, but the rules or the state forbid it
	Unauthenticated             // who is asking is not known
	Forbidden                   // who is asking is known and may not
	Absent                      // what is named is not there
	Conflict                    // what is to be made is there already
	Stale                       // the version named is not the current one
	Exhausted                   // this caller has had its share for now
	Unavailable                 // it may work later, the outcome of this try is unknown
	Unimplemented               // the other side does not have this call
)

var words = [...]string{"internal", "invalid", "refused", "unauthenticated", "forbidden", "absent", "conflict", "stale", "exhausted", "unavailable", "unimplemented"}

// String is the kind as metrics show it.
func (k Kind) String() string { return words[k] }

// domain is the ErrorInfo domain of every error of ours.
const domain = "coatcheck"

// Error is an error with a kind, a stable word for programs and a sentence for
// people. Neither Code nor Message may hold anything secret.
type Error struct {
	Kind    Kind
	Code    string // stable, snake_case: "quantity_limit"
	Message string // public
	Cause   error  // private: logged where it happened, never sent; may be nil
	// After is when it may be tried again, if that is known.
	After time.Duration
}

// New returns an error of the kind without a cause.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of the kind because of cause.
func Wrap(cause error, kind Kind, code, message string) *Error {
	return &Error{Kind: kind, Code: code, Message: message, Cause: cause}
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Code + ": " + e.Message + ": " + e.Cause.Error()
	}
	return e.Code + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// grpcCodes is the only mapping between kinds and gRPC codes; it is one to one.
var grpcCodes = map[Kind]codes.Code{
	Internal:        codes.Internal,
	Invalid:         codes.InvalidArgument,
	Refused:         codes.FailedPrecondition,
	Unauthenticated: codes.Unauthenticated,
	Forbidden:       codes.PermissionDenied,
	Absent:          codes.NotFound,
	Conflict:        codes.AlreadyExists,
	Stale:           codes.Aborted,
	Exhausted:       codes.ResourceExhausted,
	Unavailable:     codes.Unavailable,
	Unimplemented:   codes.Unimplemented,
}

// GRPCCode is the code of the error's kind.
func (e *Error) GRPCCode() codes.Code { return grpcCodes[e.Kind] }

// FromCode is the error that came as its code, word and sentence, where it does
// not come as the status of a call.
func FromCode(code codes.Code, word, message string) *Error {
	return &Error{Kind: kindOf(code), Code: word, Message: message}
}

// GRPCStatus lets grpc-go send the error; the cause is left out.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(e.GRPCCode(), e.Message)
	with, err := s.WithDetails(&errdetails.ErrorInfo{Reason: e.Code, Domain: domain})
	if err == nil && e.After > 0 {
		with, err = with.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.After)})
	}
	if err != nil {
		return s
	}
	return with
}

// From returns err as an *Error: itself, or what a gRPC status of ours says. Of
// what others say only an outage, a timeout and an unknown call keep their
// meaning; all else is Internal, so that no proxy's NotFound reads as absence.
// It returns nil for nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	// status.FromError would put the text of what wraps the status into its message.
	var remote interface{ GRPCStatus() *status.Status }
	isStatus := errors.As(err, &remote)
	var s *status.Status
	if isStatus {
		s = remote.GRPCStatus()
		if own := ours(err, s); own != nil {
			return own
		}
	}
	// The message of what is not ours may name addresses.
	code := s.Code()
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		isStatus && (code == codes.DeadlineExceeded || code == codes.Canceled):
		return Wrap(err, Unavailable, "timeout", "The answer did not come in time.")
	case isStatus && code == codes.Unavailable:
		return Wrap(err, Unavailable, "unavailable", "A part of the shop is not answering.")
	case isStatus && code == codes.Unimplemented:
		return Wrap(err, Unimplemented, "unimplemented", "A part of the shop does not know this call.")
	default:
		return Wrap(err, Internal, "internal", "Something went wrong on our side.")
	}
}

// ours returns what a status says that GRPCStatus has made, nil for another's.
func ours(err error, s *status.Status) *Error {
	var own *Error
	var after time.Duration
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == domain {
				own = Wrap(err, kindOf(s.Code()), d.GetReason(), s.Message())
			}
		case *errdetails.RetryInfo:
			after = d.GetRetryDelay().AsDuration()
		}
	}
	if own != nil {
		own.After = after
	}
	return own
}

func kindOf(code codes.Code) Kind {
	for kind, c := range grpcCodes {
		if c == code {
			return kind
		}
	}
	return Internal
}

// Is reports whether err is of the kind.
func Is(err error, kind Kind) bool {
	return err != nil && From(err).Kind == kind
}

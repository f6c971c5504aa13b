package wire

import (
	"fmt"
	"math"

	"physalia/cell"
)

// The envelope is MessagePack-RPC: a request is [0, id, method, params], a response [1, id, error, result] with nil for
// the one that does not apply, a notification [2, method, params]. Params are always an array, a result is an array or
// nil, an error is that of AppendError. The envelope embeds params and results as they are and never decodes them.

// RPCKind tells the three messages apart. The numbers are those of MessagePack-RPC.
type RPCKind uint8

// The kinds of an RPC message.
const (
	RPCRequest      RPCKind = 0
	RPCResponse     RPCKind = 1
	RPCNotification RPCKind = 2
)

// MethodBytesMax bounds the name of a method.
const MethodBytesMax = 64

// noParams is the params of a method without any.
var noParams = [1]byte{0x90}

// RPC is one message of a connection that speaks MessagePack-RPC.
type RPC struct {
	Kind   RPCKind
	ID     uint32      // request, response: chosen by the requester, unique among its requests in flight
	Method string      // request, notification
	Params []byte      // request, notification: one encoded array; aliases the input
	Err    *cell.Error // response: why there is no result; nil is success
	Result []byte      // response: one encoded array; aliases the input; nil when there is none
}

// BeginRequest adds a request up to its params; append exactly one array behind it, such as a Message.
func BeginRequest(b []byte, id uint32, method string) []byte {
	b = append(AppendArray(b, 4), byte(RPCRequest))
	return AppendString(AppendUint(b, uint64(id)), method)
}

// BeginResult adds a successful response up to its result; append exactly one array or nil behind it.
func BeginResult(b []byte, id uint32) []byte {
	b = append(AppendArray(b, 4), byte(RPCResponse))
	return AppendNil(AppendUint(b, uint64(id)))
}

// BeginNotification adds a notification up to its params; append exactly one array behind it.
func BeginNotification(b []byte, method string) []byte {
	return AppendString(append(AppendArray(b, 3), byte(RPCNotification)), method)
}

// AppendRequest adds a request with encoded params; none stand for an empty array.
func AppendRequest(b []byte, id uint32, method string, params []byte) []byte {
	return append(BeginRequest(b, id, method), orNone(params)...)
}

// AppendResult adds a successful response with an encoded result; none stands for nil.
func AppendResult(b []byte, id uint32, result []byte) []byte {
	b = BeginResult(b, id)
	if len(result) == 0 {
		return AppendNil(b)
	}
	return append(b, result...)
}

// AppendFailure adds a response that says why there is no result. A nil err would be a success; it is sent as Internal.
func AppendFailure(b []byte, id uint32, err *cell.Error) []byte {
	if err == nil {
		err = &cell.Error{Kind: cell.Internal, Detail: "failed without an error"}
	}
	b = AppendUint(append(AppendArray(b, 4), byte(RPCResponse)), uint64(id))
	return AppendNil(AppendError(b, err))
}

// AppendNotification adds a notification with encoded params; none stand for an empty array.
func AppendNotification(b []byte, method string, params []byte) []byte {
	return append(BeginNotification(b, method), orNone(params)...)
}

func orNone(params []byte) []byte {
	if len(params) == 0 {
		return noParams[:]
	}
	return params
}

// ParseRPC takes one message apart. Params and result are bounded and well formed (see ValidateStructure) but not
// decoded. An error means that the peer does not speak this protocol: close the connection.
func ParseRPC(buf []byte) (RPC, error) {
	var m RPC
	r := NewReader(buf)
	fields := r.Array(4, "RPC message")
	m.Kind = RPCKind(r.UintMax(uint64(RPCNotification), "kind of RPC message"))
	switch {
	case r.err != nil:
	case m.Kind == RPCRequest && fields == 4:
		m.ID = r.Uint32("request id")
		m.Method = r.method()
		m.Params = r.raw("params")
	case m.Kind == RPCResponse && fields == 4:
		m.ID = r.Uint32("request id")
		m.Err = DecodeError(&r)
		if !r.Nil() {
			m.Result = r.raw("result")
		}
		if m.Err != nil && m.Result != nil {
			r.Fail("response has both an error and a result")
		}
	case m.Kind == RPCNotification && fields == 3:
		m.Method = r.method()
		m.Params = r.raw("params")
	default:
		r.Fail("RPC message of kind %d has %d fields", m.Kind, fields)
	}
	if err := r.Done(); err != nil {
		return RPC{}, &cell.Error{Op: "wire.rpc", Kind: cell.Invalid, Detail: err.Error(),
			Hint: "close the connection; the peer must speak MessagePack-RPC with positional params"}
	}
	return m, nil
}

// raw consumes one array without decoding it and returns its bytes, which alias the buffer.
func (r *Reader) raw(what string) []byte {
	if r.err != nil {
		return nil
	}
	n, err := ValidateStructure(r.Rest(), DepthMax)
	if err != nil {
		r.Fail("%s: %v", what, err)
		return nil
	}
	p := r.buf[r.off : r.off+n : r.off+n]
	head := NewReader(p)
	if head.Array(math.MaxInt, what); head.err != nil {
		r.Fail("%s: %v", what, head.err)
		return nil
	}
	r.off += n
	return p
}

// method consumes the name of a method. Known names cost no allocation.
func (r *Reader) method() string {
	p := r.Text(MethodBytesMax, "method")
	if name, ok := methods[string(p)]; ok {
		return name
	}
	return string(p)
}

// methods holds the known names.
var methods = func() map[string]string {
	m := make(map[string]string)
	for _, name := range [...]string{
		MethodTxn, MethodRead, MethodExplain, MethodServer,
		MethodRegister, MethodPush, MethodCreateNodes, MethodDropNodes, MethodSeal, MethodListNodes, MethodPing,
		MethodDigest, MethodPull, MethodChanges, MethodContacts,
		MethodLookup, MethodCreateCells, MethodDeleteCells, MethodListCells, MethodListServers,
		MethodExport, MethodRecoverNodes, MethodPlanRecovery, MethodRecoverCells, MethodDutiesMoved, MethodDialBack,
		MethodListInstances, MethodPropose, MethodWithdraw, MethodKnown, MethodPresent, MethodInvite, MethodJoin, MethodAudit,
	} {
		m[name] = name
	}
	return m
}()

// String describes a message for logs: kind, id, method and sizes, never content.
func (m RPC) String() string {
	switch m.Kind {
	case RPCRequest:
		return fmt.Sprintf("request %d %s (%d bytes)", m.ID, m.Method, len(m.Params))
	case RPCResponse:
		if m.Err != nil {
			return fmt.Sprintf("response %d: %v", m.ID, m.Err.Kind)
		}
		return fmt.Sprintf("response %d (%d bytes)", m.ID, len(m.Result))
	case RPCNotification:
		return fmt.Sprintf("notification %s (%d bytes)", m.Method, len(m.Params))
	}
	return fmt.Sprintf("RPC message of kind %d", uint8(m.Kind))
}

// A proxy-wasm plugin without an SDK, with Go's runtime over WASI: it logs each request.
package main

import (
	"fmt"
	"os"
	"time"
	"unsafe"
)

const (
	logInfo        = 2
	accepted       = 1
	actionContinue = 0
)

// Memory given to the host stays reachable here.
var given [][]byte

//go:wasmimport env proxy_log
func proxyLog(level int32, message unsafe.Pointer, size int32) int32

func logText(text string) {
	proxyLog(logInfo, unsafe.Pointer(unsafe.StringData(text)), int32(len(text)))
}

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

//go:wasmexport proxy_on_memory_allocate
func onMemoryAllocate(size int32) unsafe.Pointer {
	bytes := make([]byte, size)
	given = append(given, bytes)
	return unsafe.Pointer(unsafe.SliceData(bytes))
}

//go:wasmexport proxy_on_vm_start
func onVMStart(context, size int32) int32 { return accepted }

//go:wasmexport proxy_on_configure
func onConfigure(context, size int32) int32 {
	fmt.Println("configured at", time.Now(), os.Environ())
	logText("configured")
	return accepted
}

//go:wasmexport proxy_on_context_create
func onContextCreate(context, parent int32) {}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(context, count, isLast int32) int32 {
	logText("request")
	return actionContinue
}

func main() {}

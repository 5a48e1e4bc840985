/** Tells the host which ABI the module speaks; a module without this export is refused. */
export function proxy_abi_version_0_2_1(): void {}

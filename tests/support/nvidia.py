"""Outputs of `nvidia-smi -q -x`, written by us after the shape of the real ones."""

from __future__ import annotations

__all__ = ["NVIDIA_SMI"]

NVIDIA_SMI = b"""<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <timestamp>Fri Nov 20 09:00:00 2026</timestamp>
  <driver_version>550.90.07</driver_version>
  <cuda_version>12.4</cuda_version>
  <attached_gpus>2</attached_gpus>
  <gpu id="00000000:17:00.0">
    <product_name>NVIDIA A100-SXM4-40GB</product_name>
    <uuid>GPU-11111111-2222-3333-4444-555555555555</uuid>
    <vbios_version>92.00.45.00.03</vbios_version>
    <mig_mode><current_mig>Disabled</current_mig><pending_mig>Disabled</pending_mig></mig_mode>
    <ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Enabled</pending_ecc></ecc_mode>
    <fb_memory_usage><total>40960 MiB</total><used>1337 MiB</used></fb_memory_usage>
    <temperature><gpu_temp>41 C</gpu_temp></temperature>
  </gpu>
  <gpu id="00000000:65:00.0">
    <product_name>NVIDIA T4</product_name>
    <uuid>GPU-66666666-7777-8888-9999-000000000000</uuid>
    <vbios_version>90.04.38.00.03</vbios_version>
    <mig_mode><current_mig>N/A</current_mig></mig_mode>
    <ecc_mode><current_ecc>N/A</current_ecc></ecc_mode>
    <fb_memory_usage><total>15360 MiB</total></fb_memory_usage>
  </gpu>
</nvidia_smi_log>
"""

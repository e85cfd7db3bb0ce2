/* SPDX-License-Identifier: MIT */
/* What Linux needs to find: VMBus, the serial console, and how to switch the machine off. */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "KMCL", "KMCLVM", 1)
{
    Name (\_S5, Package () { 5, 5, 0, 0 })

    Scope (\_SB)
    {
        Device (VMBS)
        {
            Name (_HID, "VMBus")
            Name (_UID, Zero)
            Name (_DDN, "VMBUS")
            Method (_STA, 0) { Return (0x0F) }
            Name (_CRS, ResourceTemplate ()
            {
                /* Nothing is here yet; devices with MMIO space would have theirs from this window. */
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0xE0000000, 0xEFFFFFFF, 0, 0x10000000)
            })
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, Zero)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 1, 8)
                IRQNoFlags () { 4 }
            })
        }
    }
}

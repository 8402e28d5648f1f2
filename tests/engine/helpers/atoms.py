"""Small atomic models for tests."""
import gemmi


def structure(positions, elements="CNOSP", b_iso=20.0):
    made = gemmi.Structure()
    made.add_model(gemmi.Model(1))
    made[0].add_chain(gemmi.Chain("A"))
    for index, (position, element) in enumerate(zip(positions, elements, strict=False)):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "UNK", gemmi.SeqId(str(index + 1))
        atom = gemmi.Atom()
        atom.name, atom.element, atom.b_iso = element, gemmi.Element(element), b_iso
        atom.pos = gemmi.Position(*position)
        residue.add_atom(atom)
        made[0][0].add_residue(residue)
    made.cell = gemmi.UnitCell(1, 1, 1, 90, 90, 90)
    return made

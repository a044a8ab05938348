"""Write the provenance of an image as a standard XMP packet, which catalogs, newsrooms and search engines read."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

if TYPE_CHECKING:
    from reimagen_generator.generation.provenance import Provenance

SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's digital source type of images that a trained model drew."""
SYSTEM: Final = "Re-Imagen"

_NAMESPACES: Final = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stRef": "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "reimagen": "urn:reimagen:xmp#",
}
for _prefix, _uri in _NAMESPACES.items():
    ElementTree.register_namespace(_prefix, _uri)
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_BEGIN: Final = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_END: Final = '<?xpacket end="r"?>'
# XML 1.0 has no way to write these characters, not even escaped.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def packet(provenance: "Provenance") -> bytes:
    """Return the XMP packet of a provenance.

    It has IPTC's fields of generated images, the prompt as the description, the neighbors as `xmpMM:Ingredients`, and
    the seed, size and revision in a namespace of this service.
    """
    root = ElementTree.Element(_name("x:xmpmeta"))
    rdf = ElementTree.SubElement(root, _name("rdf:RDF"))
    about = ElementTree.SubElement(rdf, _name("rdf:Description"), {_name("rdf:about"): ""})
    texts = {
        "Iptc4xmpExt:DigitalSourceType": SOURCE_TYPE,
        "Iptc4xmpExt:AISystemUsed": f"{SYSTEM}, {provenance.cascade}",
        "Iptc4xmpExt:AIPromptInformation": provenance.prompt,
        "xmp:CreatorTool": SYSTEM,
        "reimagen:Model": provenance.cascade,
        "reimagen:Size": str(provenance.size),
        "reimagen:Revision": provenance.revision,
    }
    if provenance.seed is not None:
        texts["reimagen:Seed"] = str(provenance.seed)
    if provenance.created is not None:
        texts["xmp:CreateDate"] = datetime.fromtimestamp(provenance.created, UTC).isoformat()
    for name, text in texts.items():
        _add(about, name, text)
    alternatives = ElementTree.SubElement(ElementTree.SubElement(about, _name("dc:description")), _name("rdf:Alt"))
    _add(alternatives, "rdf:li", provenance.prompt).set(_LANGUAGE, "x-default")
    if provenance.neighbors:
        bag = ElementTree.SubElement(ElementTree.SubElement(about, _name("xmpMM:Ingredients")), _name("rdf:Bag"))
        for neighbor in provenance.neighbors:
            item = ElementTree.SubElement(bag, _name("rdf:li"), {_name("rdf:parseType"): "Resource"})
            _add(item, "stRef:documentID", neighbor.id)
            _add(item, "stRef:filePath", neighbor.source)
            _add(item, "reimagen:Caption", neighbor.caption)
            _add(item, "reimagen:License", neighbor.license)
            if neighbor.cut_out:
                _add(item, "reimagen:CutOut", "True")
    return f"{_BEGIN}{ElementTree.tostring(root, encoding='unicode')}{_END}".encode()


def _name(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{_NAMESPACES[prefix]}}}{local}"


def _add(parent: ElementTree.Element, name: str, text: str) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, _name(name))
    child.text = _NOT_IN_XML.sub("\ufffd", text)
    return child
